mod asked;
mod kept;
mod started;

use std::fs;
use std::io;

use quartet_ingest::data::{Source, SyntheticSpec};
use quartet_proto::channel::Connector;
use quartet_shared::blob::{Blob, BlobRef};
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
use serde_json::json;
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
        self.blob_of(key, b"x".to_vec()).await
    }

    async fn blob_of(&self, key: String, bytes: Vec<u8>) -> BlobRef {
        let blob = Blob::of(&bytes);
        let created = self.store.create(&key, bytes.into()).await.unwrap();
        assert_eq!(created, Creation::Created);
        BlobRef { key, blob }
    }

    /// The weights of an epoch as a worker writes them, without their tensors.
    fn checkpoint(&self, run: &RunName, epoch: Epoch) -> Vec<u8> {
        let RunSpec {
            backbone, width, ..
        } = self.spec.run(run).unwrap();
        let network = json!({"backbone": backbone, "variant": "torch", "width": width});
        let metadata = json!({"format": 1, "network": network, "epoch": epoch}).to_string();
        let header = json!({"__metadata__": {"quartet": metadata}}).to_string();
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
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
                    .blob_of(
                        self.layout.weights(&run, position, Attempt(1)),
                        self.checkpoint(&run, epoch),
                    )
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
