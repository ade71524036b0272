//! The commands on a store of a directory.

use insta::assert_snapshot;
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::clock::Timestamp;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::event::{AttemptEnd, Event, Occurrence, Worker};
use quartet_shared::ids::{Attempt, Epoch, ExperimentName, Term};
use quartet_shared::outcome::{Outcome, StopReason};
use quartet_shared::position::Position;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::provenance::Provenance;
use quartet_shared::spec::Preset;
use quartet_shared::task::Task;
use quartet_store::Store;
use quartet_store::layout::Layout;
use quartet_store::manifest::{AttemptRecord, Manifest, StoredSpec};
use serde_json::Value;
use tempfile::TempDir;

use super::*;

const BEGIN: u64 = 1_795_727_935;
/// When lists are made.
const NOW: Timestamp = Timestamp((BEGIN + 120 + 5 * 3600) * 1000);

/// A store with two experiments of two runs: one whose first run has finished and whose worker was lost on
/// the way, and one that has just begun, with another rate.
async fn store() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    let layout = begin(&store, "first", 0).await;
    for (attempt, epoch) in [(1, 0), (2, 1)] {
        let task = Task::Train("vgg16".parse().unwrap());
        let record = AttemptRecord {
            attempt: Attempt(attempt),
            worker: worker().id,
            revision: quartet_shared::ids::Revision::FIRST,
            name: worker().name,
            secret: None,
            term: Term(1),
            resume: Position::end_of(Epoch(epoch)),
            granted_at: BEGIN + 60 * u64::from(epoch),
            provenance: Provenance::default(),
        };
        put(&store, &layout.attempt(&task, record.attempt), &record).await;
        put(
            &store,
            &layout.manifest(&"vgg16".parse().unwrap(), Epoch(epoch + 1)),
            &manifest(epoch + 1),
        )
        .await;
    }
    let outcome = Outcome {
        epochs: 2,
        best_epoch: Epoch(2),
        best_valid_accuracy: 0.5,
        stop_reason: StopReason::Epochs,
    };
    put(&store, &layout.outcome(&"vgg16".parse().unwrap()), &outcome).await;
    let what = [
        Occurrence::AttemptEnded {
            task: Task::Train("vgg16".parse().unwrap()),
            attempt: Attempt(1),
            worker: worker(),
            how: AttemptEnd::Lost,
            reason: Some("worker gpu-0 was lost: no heartbeat for 15 s".into()),
        },
        Occurrence::CoordinatorStopped {
            reason: "it was told to".into(),
        },
    ];
    let at = Timestamp::from_seconds(BEGIN + 55);
    let events = what.map(|what| Event { at, what });
    put(&store, &layout.events(Term(1), 1), &events).await;
    begin(&store, "second", 3600).await;
    folder
}

async fn begin(store: &Store, name: &str, later: u64) -> Layout {
    let name: ExperimentName = name.parse().unwrap();
    let mut experiment = Preset::Demo.spec();
    experiment.name = name.clone();
    experiment.runs.drain(..1);
    experiment.runs.truncate(2);
    if later > 0 {
        experiment.runs[0].learning_rate = 0.25;
        experiment.epochs = 99;
    }
    let spec = StoredSpec {
        note: None,
        tags: (later > 0).then(|| "x".to_owned()).into_iter().collect(),
        forked_from: None,
        revised: None,
        format: 1,
        id: None,
        experiment,
        dataset: blob("datasets/x.qds"),
        weights: Default::default(),
        data_fingerprint: None,
        data_origin: None,
        origins: Default::default(),
        created_at: Some(Timestamp::from_seconds(BEGIN + later)),
    };
    let layout = Layout::new(name);
    put(store, &layout.spec(), &spec).await;
    layout
}

fn manifest(epoch: u32) -> Manifest {
    let valid_accuracy = 0.25 * f64::from(epoch);
    Manifest {
        run: "vgg16".parse().unwrap(),
        epoch: Epoch(epoch),
        attempt: Attempt(epoch),
        worker: worker().id,
        revision: quartet_shared::ids::Revision::FIRST,
        committed_at: Some(Timestamp::from_seconds(BEGIN + 60 * u64::from(epoch))),
        metrics: EpochMetrics {
            train_loss: 1.5,
            train_accuracy: 0.4,
            valid_loss: 1.25,
            valid_accuracy,
            images_per_second: 12.0,
            seconds: 50.0,
        },
        early_stopping: EarlyStopping::observe(None, Epoch(epoch), valid_accuracy),
        weights: blob("w"),
        training_state: blob("s"),
    }
}

fn blob(key: &str) -> BlobRef {
    let blob = Blob::of(key.as_bytes());
    let key = key.into();
    BlobRef { key, blob }
}

fn worker() -> Worker {
    Worker {
        id: "w1".parse().unwrap(),
        name: "gpu-0".into(),
    }
}

async fn put(store: &Store, key: &str, value: &impl serde::Serialize) {
    store.create_json(key, value).await.unwrap();
}

/// What moves on with the clock.
fn without_ago(text: &str) -> String {
    let lines = text.lines().map(|line| match line.rfind(" ago") {
        Some(end) => {
            let begin = line[..end].rfind("  ").map_or(0, |at| at + 2);
            let begin = line[..end].rfind("sign ").map_or(begin, |at| at + 5);
            format!("{}...{}", &line[..begin], &line[end..])
        }
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_list_has_the_newest_first() {
    let folder = store().await;
    let mut out = Vec::new();
    let path = folder.path().to_str().unwrap();
    list(path, &[], Format::Text, 120, NOW, &mut out, Vec::new())
        .await
        .unwrap();
    assert_snapshot!(String::from_utf8(out).unwrap(), @r"
    experiment  state       runs  done  valid  best run         began (UTC)             took  last sign       tags
    second      unfinished     2     0                          2026-11-26 22:18                              x
    first       stopped        2     1          50.00 %  vgg16  2026-11-26 21:18  2 min 00 s  5 h 00 min ago
    ");
    let mut out = Vec::new();
    list(path, &[], Format::Csv, 120, NOW, &mut out, Vec::new())
        .await
        .unwrap();
    assert_snapshot!(String::from_utf8(out).unwrap(), @r"
    experiment,state,runs,runs_finished,valid_accuracy,test_accuracy,ensemble_without,best_run_accuracy,best_run,began_at,took_seconds,last_sign,tags,note,revision
    second,unfinished,2,0,,,,,,2026-11-26T22:18:55.000Z,,,x,,1
    first,stopped,2,1,,,,0.5,vgg16,2026-11-26T21:18:55.000Z,120.0,2026-11-26T21:20:55.000Z,,,1
    ");
}

#[tokio::test]
async fn a_list_may_have_those_of_a_tag_alone() {
    let folder = store().await;
    let path = folder.path().to_str().unwrap();
    let listed = async |tags: &[&str]| {
        let tags: Vec<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
        let mut out = Vec::new();
        list(path, &tags, Format::Text, 120, NOW, &mut out, Vec::new())
            .await
            .unwrap();
        String::from_utf8(out).unwrap()
    };
    let tagged = listed(&["x"]).await;
    assert!(tagged.contains("second") && !tagged.contains("first"));
    let none = listed(&["x", "y"]).await;
    assert_eq!(
        none,
        format!("{path} has no experiments with the tag x and y\n")
    );
}

#[tokio::test]
async fn an_experiment_is_no_store() {
    let folder = store().await;
    let path = folder.path().join("first");
    let path = path.to_str().unwrap();
    for format in [Format::Text, Format::Json] {
        let listed = list(path, &[], format, 120, NOW, Vec::new(), Vec::new()).await;
        let error = listed.unwrap_err();
        assert!(error.is_usage());
        assert_eq!(
            error.to_string(),
            format!("{path} is an experiment: `status show {path}` shows it")
        );
    }
}

#[tokio::test]
async fn an_experiment_is_shown() {
    let folder = store().await;
    let place = format!("{}/first", folder.path().display());
    let shown = async |format| {
        let mut out = Vec::new();
        show(&place, format, 120, &mut out, Vec::new())
            .await
            .unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_snapshot!(without_ago(&shown(Format::Text).await), @r"
    experiment first: stopped, 1 of 2 runs trained; began 2026-11-26 21:18 UTC, last sign ... ago

    run       state     attempts  last worker  epoch  valid loss  valid acc  best (epoch)  img/s  trained for
    vgg16     finished         2  gpu-0            2       1.250    50.00 %   50.00 % (2)   12.0   1 min 40 s
    resnet50  pending          0                   0

    best weights of vgg16: w

    Attempts without a result:
    ended (UTC)       run    attempt  worker  why it ended
    2026-11-26 21:19  vgg16        1  gpu-0   worker gpu-0 was lost: no heartbeat for 15 s
    ");
    assert_snapshot!(shown(Format::Csv).await, @r"
    run,epoch,attempt,committed_at,train_loss,train_accuracy,valid_loss,valid_accuracy,images_per_second,seconds
    vgg16,1,1,2026-11-26T21:19:55.000Z,1.5,0.4,1.25,0.25,12.0,50.0
    vgg16,2,2,2026-11-26T21:20:55.000Z,1.5,0.4,1.25,0.5,12.0,50.0
    ");
    let json: Value = serde_json::from_str(&shown(Format::Json).await).unwrap();
    assert_eq!(json["state"], "stopped");
    assert_eq!(
        json["runs"][0]["epochs"][1]["metrics"]["valid_accuracy"],
        0.5
    );
    assert_eq!(json["runs"][0]["attempts"][0]["result"]["how"], "lost");
    assert_eq!(json["events"][1]["event"], "coordinator_stopped");
}

#[tokio::test]
async fn a_comparison_shows_what_differs() {
    let folder = store().await;
    let places = ["first", "second"].map(|name| format!("{}/{name}", folder.path().display()));
    let mut out = Vec::new();
    compare(&places, Format::Text, 120, &mut out, Vec::new())
        .await
        .unwrap();
    assert_snapshot!(String::from_utf8(out).unwrap(), @r"
                                first        second
    state                     stopped    unfinished
    ensemble valid
    ensemble test
    vgg16 best valid          50.00 %
    vgg16 test
    vgg16 img/s                  12.0
    resnet50 best valid
    resnet50 test
    resnet50 img/s
    took                   2 min 00 s
    data                 acdaf1bd8036  acdaf1bd8036
    tags                                          x
    epochs                          8            99
    vgg16.learning_rate        0.0002          0.25
    ");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let folder = store().await;
    let path = folder.path().display();
    let mut errors = Vec::new();
    for place in [
        format!("{path}/third"),
        format!("{path}/nowhere/first"),
        format!("{path}/first/a b"),
    ] {
        let error = show(&place, Format::Text, 80, Vec::new(), Vec::new())
            .await
            .unwrap_err();
        assert!(error.is_usage(), "{error}");
        errors.push(error.to_string().replace(&path.to_string(), "STORE"));
    }
    assert_snapshot!(errors.join("\n"), @r#"
    STORE has no experiment third; it has first, second
    cannot use "STORE/nowhere" as a store: there is no such directory
    STORE/first/a b names no experiment: "a b" is not a valid name: use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or a digit; use STORE/NAME, such as runs/fer2013
    "#);
    // Nothing was made.
    assert!(!folder.path().join("nowhere").exists());
}

/// One that is damaged hides neither the others nor itself.
#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let folder = store().await;
    let path = folder.path().to_str().unwrap();
    std::fs::write(folder.path().join("second/spec.json"), "x").unwrap();
    let manifest = folder.path().join("first/runs/vgg16/epochs/0001.json");
    std::fs::write(manifest, "{}").unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let listed = list(path, &[], Format::Text, 120, NOW, &mut out, &mut err).await;
    let error = listed.unwrap_err();
    assert!(error.to_string().contains("second/spec.json"), "{error}");
    assert!(!error.is_usage());
    assert!(String::from_utf8(out).unwrap().contains("first"));
    assert!(
        String::from_utf8(err)
            .unwrap()
            .contains("vgg16/epochs/0001.json")
    );
}
