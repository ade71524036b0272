use std::fs;
use std::io;

use quartet_ingest::data::{Dealing, Source, SyntheticSpec};
use quartet_proto::channel::Connector;
use quartet_shared::spec::Preset;
use quartet_shared::terminal::Mode;

use super::*;

/// A face of each kind in each split.
fn small() -> SyntheticSpec {
    SyntheticSpec {
        train: 7,
        valid: 7,
        test: 7,
        ..SyntheticSpec::default()
    }
}

#[tokio::test]
async fn a_restart_needs_neither_weights_nor_data() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store").to_str().unwrap()).unwrap();
    let file = dir.path().join("ours.safetensors");
    // The header's length and an empty header.
    fs::write(&file, b"\x02\0\0\0\0\0\0\0{}").unwrap();
    let mut spec = Preset::Demo.spec();
    spec.runs.truncate(2);
    spec.runs[1].weights = "ours.safetensors".parse().unwrap();
    let open = || async {
        let (source, address) = (Source::Synthetic, "127.0.0.1:1".to_owned());
        let mut request = Request::new(spec.clone(), source, address, Connector::tcp());
        request.spec_is_explicit = true;
        request.data.synthetic = small();
        request.weights.folder = dir.path().to_owned();
        let mut progress = DownloadProgress::new(Box::new(io::sink()), Mode::Lines);
        Experiment::open(store.clone(), request, &mut progress).await
    };
    let first = open().await.unwrap();
    assert_eq!(first.created.unwrap().weights.len(), 1);
    let names: Vec<_> = first.spec.weights.keys().collect();
    assert_eq!(names, [&spec.runs[1].name]);

    fs::remove_file(&file).unwrap();
    let again = open().await.unwrap();
    assert_eq!(again.spec, first.spec);
    assert!(again.created.is_none());
    assert_eq!(again.term, first.term.next());
}

#[tokio::test]
async fn a_claim_after_a_gap_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap()).unwrap();
    let (source, address) = (Source::Synthetic, "127.0.0.1:1".to_owned());
    let mut request = Request::new(Preset::Demo.spec(), source, address, Connector::tcp());
    request.data.synthetic = small();
    let mut progress = DownloadProgress::new(Box::new(io::sink()), Mode::Lines);
    let experiment = Experiment::open(store.clone(), request, &mut progress)
        .await
        .unwrap();
    experiment.verify_leadership().await.unwrap();
    let layout = &experiment.layout;
    let newer = leadership::claim(&store, &layout.claims(), Term(6), "127.0.0.1:2")
        .await
        .unwrap();
    assert_eq!(newer, Term(7));
    let replaced = experiment.verify_leadership().await.unwrap_err();
    assert!(replaced.to_string().contains("since term 7"), "{replaced}");
}

#[tokio::test]
async fn a_stored_experiment_that_cannot_be_trained_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap()).unwrap();
    let open = || async {
        let (source, address) = (Source::Synthetic, "127.0.0.1:1".to_owned());
        let mut request = Request::new(Preset::Demo.spec(), source, address, Connector::tcp());
        request.data.synthetic = small();
        let mut progress = DownloadProgress::new(Box::new(io::sink()), Mode::Lines);
        Experiment::open(store.clone(), request, &mut progress).await
    };
    let mut stored = open().await.unwrap().spec;
    stored.experiment.batch_size = 0;
    let path = dir.path().join("demo/spec.json");
    fs::write(&path, serde_json::to_vec(&stored).unwrap()).unwrap();
    let error = format!("{:#}", open().await.unwrap_err());
    assert!(
        error.ends_with("demo/spec.json is damaged: batch_size must be at least 2, not 0"),
        "{error}"
    );
}

#[tokio::test]
async fn the_same_data_dealt_otherwise_are_other_data() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store").to_str().unwrap()).unwrap();
    let file = dir.path().join("faces.csv");
    let rows: String = (0..70)
        .map(|row| format!("{},{row} 0 0 0\n", row % 7))
        .collect();
    fs::write(&file, format!("emotion,pixels\n{rows}")).unwrap();
    let open = async |dealing: Dealing, explicit: bool| {
        let (source, address) = (Source::Path(file.clone()), "127.0.0.1:1".to_owned());
        let mut request = Request::new(Preset::Demo.spec(), source, address, Connector::tcp());
        request.source_is_explicit = explicit;
        request.data.dealing = dealing;
        let mut progress = DownloadProgress::new(Box::new(io::sink()), Mode::Lines);
        Experiment::open(store.clone(), request, &mut progress).await
    };
    let shares = |text: &str| Dealing::All(text.parse().unwrap());
    let first = open(shares("0.8,0.1,0.1"), true).await.unwrap();
    assert!(
        first
            .created
            .unwrap()
            .data
            .ends_with("56 training, 7 validation, 7 test images of 2x2 gray")
    );
    let again = open(shares("0.8,0.1,0.1"), true).await.unwrap();
    assert_eq!(again.spec, first.spec);
    for other in [shares("0.7,0.2,0.1"), Dealing::Own] {
        let error = open(other, true).await.unwrap_err();
        assert!(error.is::<Mismatch>(), "{error}");
        assert!(
            error.to_string().contains("--split, --valid-fraction"),
            "{error}"
        );
    }
    assert_eq!(open(Dealing::Own, false).await.unwrap().spec, first.spec);
}

#[tokio::test]
async fn data_that_nobody_has_touched_are_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store").to_str().unwrap()).unwrap();
    let file = dir.path().join("faces.csv");
    let write = |first: u8| {
        let rows: String = (0..70)
            .map(|row| format!("{},{first} 0 0 {row}\n", row % 7))
            .collect();
        fs::write(&file, format!("emotion,pixels\n{rows}")).unwrap();
    };
    let open = async |dealing: &str| {
        let (source, address) = (Source::Path(file.clone()), "127.0.0.1:1".to_owned());
        let mut request = Request::new(Preset::Demo.spec(), source, address, Connector::tcp());
        request.source_is_explicit = true;
        request.data.dealing = Dealing::All(dealing.parse().unwrap());
        let mut progress = DownloadProgress::new(Box::new(io::sink()), Mode::Lines);
        Experiment::open(store.clone(), request, &mut progress).await
    };
    let refused = async |dealing: &str| {
        let error = open(dealing).await.unwrap_err();
        assert!(error.is::<Mismatch>(), "{error}");
    };
    write(1);
    let first = open("0.8,0.1,0.1").await.unwrap().spec;
    assert!(first.data_fingerprint.is_some());
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let set_time = |time| {
        let file = fs::File::options().write(true).open(&file).unwrap();
        file.set_modified(time).unwrap();
    };

    // Whoever hides a change of a file's bytes: they are not read.
    write(2);
    set_time(time);
    assert_eq!(open("0.8,0.1,0.1").await.unwrap().spec, first);
    refused("0.7,0.2,0.1").await;
    // One that is not hidden is found.
    set_time(time + Duration::from_nanos(1000));
    refused("0.8,0.1,0.1").await;
    write(10);
    set_time(time);
    refused("0.8,0.1,0.1").await;
    // The same bytes, written again.
    write(1);
    set_time(time + Duration::from_secs(1));
    assert_eq!(open("0.8,0.1,0.1").await.unwrap().spec, first);
}
