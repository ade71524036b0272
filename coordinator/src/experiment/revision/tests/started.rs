//! Runs that start from a checkpoint of another run.

use bytes::Bytes;
use futures::TryStreamExt as _;
use quartet_store::manifest::CheckpointOrigin;

use super::*;

/// A request for a fork of `demo` with these settings.
fn fork(stored: &Stored, name: &str, settings: &[&str]) -> Request {
    let mut request = request(stored.spec.clone());
    request.spec.name = name.parse().unwrap();
    request.fork = Some(stored.spec.name.clone());
    request.settings = settings.iter().map(|&text| text.to_owned()).collect();
    request.weights.folder = stored.folder.path().to_owned();
    request
}

async fn bytes(store: &Store, key: &str) -> Vec<u8> {
    let chunks: Vec<Bytes> = store.read(key).await.unwrap().try_collect().await.unwrap();
    chunks.concat()
}

#[tokio::test]
async fn a_fork_starts_from_the_best_checkpoint_and_keeps_a_copy_of_it() {
    let stored = Stored::new().await;
    stored.train("resnet50", &[0.3, 0.5, 0.4]).await;
    let settings = ["resnet50.weights=run:demo/resnet50"];
    let experiment = open(&stored.store, fork(&stored, "second", &settings))
        .await
        .unwrap();
    let run = name("resnet50");
    let expected = stored.checkpoint(&run, Epoch(2));
    let object = &experiment.spec.weights[&run];
    assert_eq!(object.blob, Blob::of(&expected));
    assert_eq!(object.key, format!("weights/{}", object.blob.sha256));
    let origin = CheckpointOrigin {
        experiment: stored.spec.name.clone(),
        id: experiment.spec.origins[&run].id.clone(),
        run: run.clone(),
        epoch: Epoch(2),
        valid_accuracy: 0.5,
    };
    assert!(origin.id.is_some());
    assert_eq!(
        experiment.spec.origins,
        BTreeMap::from([(run.clone(), origin)])
    );
    let told = &experiment.created.unwrap().weights;
    let [line] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(
        line.starts_with("resnet50 from run demo/resnet50, epoch 2 with 50.00 % ("),
        "{line}"
    );

    // It needs the other experiment no more, and neither does a fork of it.
    fs::remove_dir_all(stored.folder.path().join("store/demo")).unwrap();
    assert_eq!(bytes(&stored.store, &object.key).await, expected);
    let mut third = fork(&stored, "third", &["epochs=2"]);
    third.fork = Some("second".parse().unwrap());
    let third = open(&stored.store, third).await.unwrap();
    assert_eq!(third.spec.weights, experiment.spec.weights);
    assert_eq!(third.spec.origins, experiment.spec.origins);
    assert!(third.created.unwrap().weights.is_empty());
}

#[tokio::test]
async fn runs_start_from_those_of_another_store_and_of_the_same_experiment() {
    let stored = Stored::new().await;
    stored.train("resnet50", &[0.3]).await;
    let other = stored.folder.path().join("other");
    let other = Store::open(other.to_str().unwrap()).unwrap();
    // Relative to the folder of the TOML file; the data are the other request's own.
    let mut asked = fork(
        &stored,
        "second",
        &["resnet50.weights=run:store/demo/resnet50"],
    );
    asked.fork = None;
    let experiment = open(&other, asked).await.unwrap();
    let object = &experiment.spec.weights[&name("resnet50")];
    let expected = stored.checkpoint(&name("resnet50"), Epoch(1));
    assert_eq!(bytes(&other, &object.key).await, expected);

    // A run that has no epoch yet.
    let mut spec = stored.spec.clone();
    let mut more = spec.runs[0].clone();
    (more.name, more.weights) = (name("more"), "run:demo/resnet50".parse().unwrap());
    spec.runs.push(more);
    let updated = stored.update_to(&spec).await.unwrap();
    assert_eq!(
        updated.spec.weights[&name("more")].blob,
        Blob::of(&expected)
    );
    assert_eq!(updated.spec.origins[&name("more")].epoch, Epoch(1));
    // What is not changed then keeps its copy.
    spec.ensemble = quartet_shared::spec::Ensemble::All;
    let again = stored.update_to(&spec).await.unwrap();
    assert_eq!(again.spec.weights, updated.spec.weights);
    assert_eq!(again.spec.origins, updated.spec.origins);
}

#[tokio::test]
async fn a_checkpoint_that_is_not_there_or_does_not_fit_is_refused_before_anything_is_stored() {
    let stored = Stored::new().await;
    stored.train("resnet50", &[0.3]).await;
    let place = stored.store.location().to_owned();
    let before = stored.store.list("").await.unwrap();
    let cases = [
        (
            "vgg16.weights=run:demos/vgg16",
            format!("run demos/vgg16: {place} has no experiment demos; it has demo"),
        ),
        (
            "vgg16.weights=run:demo/vgg19",
            "run demo/vgg19: experiment demo has no run vgg19; it has resnet50, vgg16".to_owned(),
        ),
        (
            "vgg16.weights=run:demo/vgg16",
            "run demo/vgg16: it has not finished an epoch yet; start again when it has, or take one of \
             these, which have: resnet50"
                .to_owned(),
        ),
        (
            "vgg16.weights=run:demo/resnet50",
            "run demo/resnet50: it is of resnet50, variant torch, width 0.125, this run is of vgg16, \
             width 0.125"
                .to_owned(),
        ),
        (
            "vgg16.weights=run:absent/demo/resnet50",
            "there is no such directory".to_owned(),
        ),
    ];
    for (setting, expected) in cases {
        let error = open(&stored.store, fork(&stored, "second", &[setting])).await;
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.starts_with("weights of run vgg16: run "), "{error}");
        assert!(error.contains(&expected), "{error}");
    }
    let wide = ["resnet50.weights=run:demo/resnet50", "resnet50.width=0.25"];
    let error = open(&stored.store, fork(&stored, "second", &wide)).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.ends_with("width 0.125, this run is of resnet50, width 0.25"),
        "{error}"
    );
    assert_eq!(stored.store.list("").await.unwrap(), before);
}
