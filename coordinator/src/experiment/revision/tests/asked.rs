//! What is asked for, and what of it is a change.

use super::*;

#[tokio::test]
async fn other_words_are_no_reason_to_evaluate_again() {
    let stored = Stored::new().await;
    stored.evaluate().await;
    let words = |update| {
        let mut request = request(stored.spec.clone());
        (request.update, request.note) = (update, Some("the best".to_owned()));
        request.tags = vec!["paper".to_owned()];
        request
    };
    let error = open(&stored.store, words(false)).await.unwrap_err();
    assert!(
        error.to_string().contains("--update changes them"),
        "{error}"
    );
    let updated = open(&stored.store, words(true)).await.unwrap();
    assert_eq!(updated.spec.note.as_deref(), Some("the best"));
    let revised = updated.spec.revised.unwrap();
    assert_eq!(revised.changes, ["note: the best", "tags: paper"]);
    assert!(stored.has(&stored.layout.results(None).evaluation()).await);
    let finished = crate::experiment::finished(&stored.store, &words(true)).await;
    assert!(finished.unwrap().is_some());
    let weights = {
        let mut request = request(stored.spec.clone());
        request.update = true;
        request.settings = vec!["vgg16.ensemble_weight=3".to_owned()];
        request
    };
    let finished = crate::experiment::finished(&stored.store, &weights).await;
    assert!(finished.unwrap().is_none());
}

#[tokio::test]
async fn without_update_a_difference_is_refused_and_settings_are_of_what_is_stored() {
    let stored = Stored::new().await;
    let mut other = request(stored.spec.clone());
    other.settings = vec!["epochs=8".to_owned()];
    let error = open(&stored.store, other).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "experiment demo exists and differs from the one given: epochs = 8 (was 4); --update changes it, \
         --name begins another; leave --experiment and --set out to go on with it as it is"
    );
    // The preset has 4 other runs and other epochs.
    let mut same = request(Preset::Demo.spec());
    same.settings = vec!["epochs=4".to_owned()];
    assert_eq!(open(&stored.store, same).await.unwrap().spec.revised, None);
    let mut unknown = request(Preset::Demo.spec());
    unknown.spec.name = "other".parse().unwrap();
    unknown.update = true;
    let error = open(&stored.store, unknown).await.unwrap_err().to_string();
    assert!(
        error.ends_with("has no experiment other to be changed, it has demo; --name says which"),
        "{error}"
    );
}

#[tokio::test]
async fn a_fork_shares_data_and_weights() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store").to_str().unwrap()).unwrap();
    let file = folder.path().join("ours.safetensors");
    // The header's length and an empty header.
    fs::write(&file, b"\x02\0\0\0\0\0\0\0{}").unwrap();
    let mut spec = Preset::Demo.spec();
    spec.runs.truncate(2);
    spec.runs[1].weights = "ours.safetensors".parse().unwrap();
    let mut first = request(spec.clone());
    first.weights.folder = folder.path().to_owned();
    let first = open(&store, first).await.unwrap();
    // Neither the file nor the same drawn faces are there any more.
    fs::remove_file(&file).unwrap();
    let fork = |name: &str| {
        let mut fork = request(Preset::Demo.spec());
        fork.spec.name = name.parse().unwrap();
        fork.fork = Some(spec.name.clone());
        fork.data.synthetic.train = 70;
        fork.settings = vec!["batch_size=4".to_owned()];
        fork
    };
    let forked = open(&store, fork("second")).await.unwrap();
    assert_eq!(forked.created.unwrap().data, "those of experiment demo");
    assert_eq!(forked.spec.dataset, first.spec.dataset);
    assert_eq!(forked.spec.weights, first.spec.weights);
    assert_eq!(forked.spec.forked_from, Some(spec.name.clone()));
    assert_eq!(forked.spec.experiment.runs, spec.runs);
    assert_eq!(forked.spec.experiment.batch_size, 4);
    assert_ne!(forked.id, first.id);
    let again = open(&store, fork("second")).await.unwrap();
    assert!(again.created.is_none());
    let error = open(&store, fork("demo")).await.unwrap_err().to_string();
    assert!(error.contains("exists and is no fork of demo"), "{error}");
    let mut of_nothing = fork("third");
    of_nothing.fork = Some("nothing".parse().unwrap());
    let error = open(&store, of_nothing).await.unwrap_err().to_string();
    assert!(error.contains("has no experiment nothing"), "{error}");
}
