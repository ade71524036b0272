//! What a change keeps of the runs, and what it loses.

use super::*;

#[tokio::test]
async fn more_epochs_reopen_what_they_lengthen() {
    let stored = Stored::new().await;
    stored.train("resnet50", &[0.1, 0.2, 0.3, 0.4]).await;
    // This one stopped early, as it would have with more epochs.
    stored.train("vgg16", &[0.3, 0.2, 0.2, 0.2]).await;
    stored.evaluate().await;
    let lease = |revision| AttemptRecord {
        attempt: Attempt(revision),
        worker: "w".parse().unwrap(),
        name: "w".into(),
        secret: None,
        term: Term(1),
        revision: Revision(revision),
        resume: Position::default(),
        granted_at: 1,
        provenance: Default::default(),
    };
    let task = Task::Train(name("resnet50"));
    let key = stored.layout.attempt(&task, Attempt(1));
    stored.create(&key, &lease(1)).await;

    let updated = stored.update(&["epochs=8"]).await.unwrap();
    assert!(updated.created.is_none());
    let revised = updated.spec.revised.clone().unwrap();
    assert_eq!(revised.revision, Revision(2));
    assert_eq!(revised.changes, ["epochs = 8 (was 4)"]);
    assert_eq!(revised.begun, BTreeMap::new());
    let layout = &stored.layout;
    assert!(!stored.has(&layout.outcome(&name("resnet50"))).await);
    assert!(stored.has(&layout.outcome(&name("vgg16"))).await);
    assert_eq!(
        stored.trained(&updated, "resnet50").await,
        Position::end_of(Epoch(4))
    );
    // What was evaluated is put aside, all of it.
    let earlier = layout.earlier_results(Revision(1)).all();
    for (key, earlier) in layout.results(None).all().iter().zip(&earlier) {
        assert!(!stored.has(key).await && stored.has(earlier).await, "{key}");
    }
    // The worker trains for 4 epochs; it is told to stop.
    let history = crate::experiment::read_history(&updated).await.unwrap();
    let lease = history.runs[0].lease.clone().unwrap();
    assert!(lease.superseded && !lease.ended);
    assert!(!history.evaluated);

    // The same again changes nothing, and so does a start without it.
    let again = stored.update(&["epochs=8"]).await.unwrap();
    assert_eq!(again.spec, updated.spec);
    let plain = open(&stored.store, request(stored.spec.clone())).await;
    assert_eq!(plain.unwrap().spec, updated.spec);
}

/// A coordinator was killed while it wrote the results, and the next one is asked for other weights.
#[tokio::test]
async fn half_written_results_are_nobody_s() {
    let stored = Stored::new().await;
    let table = stored.layout.results(None).evaluation_text();
    stored.store.create(&table, "old".into()).await.unwrap();
    stored.update(&["vgg16.ensemble_weight=3"]).await.unwrap();
    assert!(!stored.has(&table).await);
    // An evaluation that comes late from a coordinator that was replaced is not taken for the new one.
    stored.evaluate().await;
    let again = stored.update(&[]).await.unwrap();
    assert!(!stored.has(&stored.layout.results(None).evaluation()).await);
    assert_eq!(again.spec.revision(), Revision(2));
}

#[tokio::test]
async fn an_experiment_that_cannot_be_read_is_not_changed() {
    let stored = Stored::new().await;
    stored.train("vgg16", &[0.1]).await;
    let key = stored.layout.manifest(&name("vgg16"), Epoch(1));
    let path = stored.folder.path().join("store").join(&key);
    fs::write(path, "{").unwrap();
    let refusal = stored.refusal(&["epochs=8"]).await;
    assert!(
        refusal.contains("cannot be read") && refusal.contains(&key),
        "{refusal}"
    );
}

#[tokio::test]
async fn what_would_lose_epochs_is_refused() {
    let stored = Stored::new().await;
    stored.train("resnet50", &[0.1, 0.3, 0.2, 0.2]).await;
    let refusal = stored.refusal(&["batch_size=48"]).await;
    let batch_size = stored.spec.batch_size;
    assert_eq!(
        refusal,
        format!(
            "experiment demo cannot be changed so: batch_size = 48 (was {batch_size}), but run resnet50 has \
             been trained for 4 epochs otherwise; --fork demo --name NEW begins another experiment with the \
             same data and weights"
        )
    );
    for (setting, reason) in [
        ("resnet50.seed=7", "resnet50.seed = 7 (was "),
        ("seed=7", "resnet50.seed = "),
        ("image_size=40", "resnet50.image_size = 40 (was "),
        (
            "epochs=3",
            "epochs = 3, but run resnet50 has been trained for 4 epochs",
        ),
        (
            "patience=1",
            "patience = 1, but run resnet50 went on after 1 epoch without improvement",
        ),
    ] {
        let refusal = stored.refusal(&[setting]).await;
        let start = format!("experiment demo cannot be changed so: {reason}");
        assert!(refusal.starts_with(&start), "{refusal}");
    }
    // With this patience it would have stopped here, too.
    stored.update(&["patience=2"]).await.unwrap();
    // The other one has no epoch.
    let updated = stored.update(&["vgg16.learning_rate=1e-4"]).await.unwrap();
    assert_eq!(updated.spec.revision(), Revision(3));
    assert_eq!(updated.spec.begun(&name("vgg16")), Revision(3));
    assert_eq!(updated.spec.begun(&name("resnet50")), Revision(1));
    assert_eq!(
        updated.spec.changed(&Task::Train(name("resnet50"))),
        Revision(2)
    );
}

#[tokio::test]
async fn a_failed_run_begins_anew_with_other_settings() {
    let stored = Stored::new().await;
    stored.train("vgg16", &[0.1, 0.2]).await;
    let position = Position::within(Epoch(2), 7);
    let (layout, run) = (&stored.layout, name("vgg16"));
    let manifest = StepManifest {
        run: run.clone(),
        position,
        attempt: Attempt(1),
        worker: "w".parse().unwrap(),
        revision: Revision::FIRST,
        weights: stored
            .blob(layout.weights(&run, position, Attempt(1)))
            .await,
        training_state: stored
            .blob(layout.training_state(&run, position, Attempt(1)))
            .await,
    };
    let key = stored
        .layout
        .step_manifest(&name("vgg16"), manifest.position);
    stored.create(&key, &manifest).await;
    let refusal = stored.refusal(&["vgg16.learning_rate=1e-4"]).await;
    assert!(refusal.contains("but run vgg16 has been trained for 2 epochs"));
    stored.fail("vgg16").await;
    let updated = stored.update(&["vgg16.learning_rate=1e-4"]).await.unwrap();
    assert_eq!(stored.trained(&updated, "vgg16").await, Position::default());
    let (layout, run) = (&stored.layout, name("vgg16"));
    for (folder, objects) in [
        (layout.manifests(&run), 0),
        (layout.step_manifests(&run), 0),
        (layout.checkpoints(&run), 0),
        (layout.discarded(&run), 3),
    ] {
        let found = stored.store.list(&folder).await.unwrap();
        assert_eq!(found.len(), objects, "{found:?}");
    }
    // A coordinator that was replaced may have written one more.
    let late = Manifest {
        run: name("vgg16"),
        epoch: Epoch(1),
        attempt: Attempt(2),
        worker: "w".parse().unwrap(),
        revision: Revision::FIRST,
        committed_at: None,
        metrics: EpochMetrics::default(),
        early_stopping: EarlyStopping::observe(None, Epoch(1), 0.5),
        weights: manifest.weights.clone(),
        training_state: manifest.training_state.clone(),
    };
    let key = stored.layout.manifest(&name("vgg16"), Epoch(1));
    stored.create(&key, &late).await;
    let record = quartet_history::read(&stored.store, &stored.spec.name);
    assert_eq!(record.await.unwrap().runs[1].epochs, []);
    assert_eq!(stored.trained(&updated, "vgg16").await, Position::default());
    assert!(!stored.has(&key).await);
}

#[tokio::test]
async fn runs_come_and_go_and_come_back() {
    let stored = Stored::new().await;
    stored.train("resnet50", &[0.1, 0.2, 0.3, 0.4]).await;
    stored.train("vgg16", &[0.1, 0.2, 0.3, 0.4]).await;
    stored.evaluate().await;
    let whole = stored.spec.clone();
    let mut without = whole.clone();
    let removed = without.runs.pop().unwrap();
    let updated = stored.update_to(&without).await.unwrap();
    let revised = updated.spec.revised.unwrap();
    assert_eq!(revised.changes, ["run vgg16 removed"]);
    assert!(!stored.has(&stored.layout.results(None).evaluation()).await);
    // As it was: nothing of it is lost.
    let updated = stored.update_to(&whole).await.unwrap();
    assert_eq!(updated.spec.begun(&removed.name), Revision(1));
    assert!(stored.has(&stored.layout.outcome(&removed.name)).await);
    // Otherwise: it begins anew.
    stored.update_to(&without).await.unwrap();
    let mut other = whole.clone();
    other.runs[1].dropout = 0.3;
    other.runs.push(removed.clone());
    other.runs[2].name = name("third");
    let updated = stored.update_to(&other).await.unwrap();
    let changes = &updated.spec.revised.as_ref().unwrap().changes;
    assert!(
        changes.contains(&"run vgg16 begins anew, its 4 epochs do not count".to_owned()),
        "{changes:?}"
    );
    assert_eq!(updated.spec.revision(), Revision(5));
    assert_eq!(updated.spec.begun(&removed.name), Revision(5));
    assert_eq!(updated.spec.begun(&name("third")), Revision(1));
    assert_eq!(stored.trained(&updated, "vgg16").await, Position::default());
}
