use std::fs;
use std::io;

use quartet_ingest::data::{Source, SyntheticSpec};
use quartet_proto::channel::Connector;
use quartet_shared::blob::{Blob, BlobRef, Checksum};
use quartet_shared::event::{Event, Occurrence};
use quartet_shared::ids::{Attempt, Epoch, Revision, Term};
use quartet_shared::outcome::Outcome;
use quartet_shared::position::Position;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::report::EvaluationReport;
use quartet_shared::spec::Preset;
use quartet_shared::terminal::Mode;
use quartet_store::Creation;
use quartet_store::manifest::{AttemptRecord, Manifest, StepManifest};
use tempfile::TempDir;

use quartet_shared::early_stopping::EarlyStopping;

use super::*;
use crate::experiment::Experiment;

/// A store with an experiment of two runs, `resnet50` and `vgg16`, of 4 epochs.
struct Stored {
    store: Store,
    layout: Layout,
    spec: ExperimentSpec,
    folder: TempDir,
}

fn name(run: &str) -> RunName {
    run.parse().unwrap()
}

fn request(spec: ExperimentSpec) -> Request {
    let (source, address) = (Source::Synthetic, "127.0.0.1:1".to_owned());
    let mut request = Request::new(spec, source, address, Connector::tcp());
    request.data.synthetic = SyntheticSpec {
        train: 7,
        valid: 7,
        test: 7,
        ..SyntheticSpec::default()
    };
    request
}

async fn open(store: &Store, request: Request) -> anyhow::Result<Experiment> {
    let mut progress = DownloadProgress::new(Box::new(io::sink()), Mode::Lines);
    Experiment::open(store.clone(), request, &mut progress).await
}

impl Stored {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store").to_str().unwrap()).unwrap();
        let mut spec = Preset::Demo.spec();
        let of = [name("resnet50"), name("vgg16")];
        spec.runs.retain(|run| of.contains(&run.name));
        spec.runs.sort_by(|a, b| a.name.cmp(&b.name));
        (spec.epochs, spec.patience) = (4, 3);
        open(&store, request(spec.clone())).await.unwrap();
        Self {
            layout: Layout::new(spec.name.clone()),
            store,
            spec,
            folder,
        }
    }

    async fn create(&self, key: &str, value: &impl serde::Serialize) {
        let created = self.store.create_json(key, value).await.unwrap();
        assert_eq!(created, Creation::Created, "{key}");
    }

    async fn blob(&self, key: String) -> BlobRef {
        let created = self.store.create(&key, "x".into()).await.unwrap();
        assert_eq!(created, Creation::Created);
        let blob = Blob {
            size: 1,
            sha256: Checksum::of(b"x"),
        };
        BlobRef { key, blob }
    }

    /// Commits epochs of these validation accuracies, and the outcome if they are all.
    async fn train(&self, run: &str, accuracies: &[f64]) {
        let run = name(run);
        let mut state = None;
        for (epoch, accuracy) in (1..).map(Epoch).zip(accuracies) {
            let early_stopping = EarlyStopping::observe(state, epoch, *accuracy);
            state = Some(early_stopping);
            let position = Position::end_of(epoch);
            let manifest = Manifest {
                run: run.clone(),
                epoch,
                attempt: Attempt(1),
                worker: "w".parse().unwrap(),
                revision: Revision::FIRST,
                committed_at: None,
                metrics: EpochMetrics {
                    valid_accuracy: *accuracy,
                    ..EpochMetrics::default()
                },
                early_stopping,
                weights: self
                    .blob(self.layout.weights(&run, position, Attempt(1)))
                    .await,
                training_state: self
                    .blob(self.layout.training_state(&run, position, Attempt(1)))
                    .await,
            };
            self.create(&self.layout.manifest(&run, epoch), &manifest)
                .await;
        }
        let last = Epoch(accuracies.len() as u32);
        let (epochs, patience) = (self.spec.epochs, self.spec.patience);
        let outcome = state.and_then(|state| Outcome::after(last, state, epochs, patience));
        if let Some(outcome) = outcome {
            self.create(&self.layout.outcome(&run), &outcome).await;
        }
    }

    async fn fail(&self, run: &str) {
        let event = Event {
            at: Timestamp::from_seconds(1),
            what: Occurrence::TaskFailed {
                task: Task::Train(name(run)),
                reason: "its loss is not finite".into(),
            },
        };
        let key = self.layout.events(Term(1), 1);
        self.create(&key, &vec![event]).await;
    }

    async fn evaluate(&self) {
        let report = EvaluationReport {
            experiment: self.spec.name.clone(),
            classes: Vec::new(),
            members: Vec::new(),
            splits: Vec::new(),
            partial: None,
            revision: Revision::FIRST,
        };
        let results = self.layout.results(None);
        self.create(&results.evaluation(), &report).await;
        for key in [
            results.evaluation_text(),
            results.predictions_table(),
            results.report(),
        ] {
            self.store.create(&key, key.clone().into()).await.unwrap();
        }
    }

    async fn has(&self, key: &str) -> bool {
        self.store.exists(key).await.unwrap()
    }

    async fn update(&self, settings: &[&str]) -> anyhow::Result<Experiment> {
        let mut request = request(self.spec.clone());
        request.update = true;
        request.settings = settings.iter().map(|&text| text.to_owned()).collect();
        open(&self.store, request).await
    }

    /// Asks for another spec.
    async fn update_to(&self, spec: &ExperimentSpec) -> anyhow::Result<Experiment> {
        let mut request = request(spec.clone());
        (request.update, request.spec_is_explicit) = (true, true);
        open(&self.store, request).await
    }

    async fn refusal(&self, settings: &[&str]) -> String {
        let error = self.update(settings).await.unwrap_err();
        assert!(error.is::<Mismatch>(), "{error}");
        error.to_string()
    }

    async fn trained(&self, experiment: &Experiment, run: &str) -> Position {
        let committed = crate::experiment::read_committed(experiment, &name(run)).await;
        committed.unwrap().position
    }
}

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
