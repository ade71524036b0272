use quartet_ingest::data::{Source, SyntheticSpec};
use quartet_ingest::weights::DownloadProgress;
use quartet_proto::channel::Connector;
use quartet_shared::blob::Blob;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::spec::Preset;
use quartet_shared::terminal::Mode;
use quartet_store::Store;

use super::*;
use crate::experiment::Request;

struct Kept {
    experiment: Experiment,
    run: RunName,
    _folder: tempfile::TempDir,
}

async fn open(store: Store) -> Experiment {
    let (source, address) = (Source::Synthetic, "127.0.0.1:1".to_owned());
    let mut request = Request::new(Preset::Demo.spec(), source, address, Connector::tcp());
    request.data.synthetic = SyntheticSpec {
        train: 7,
        valid: 7,
        test: 7,
        ..SyntheticSpec::default()
    };
    let mut progress = DownloadProgress::new(Box::new(std::io::sink()), Mode::Lines);
    Experiment::open(store, request, &mut progress)
        .await
        .unwrap()
}

impl Kept {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        Self {
            experiment: open(store).await,
            run: "vgg16".parse().unwrap(),
            _folder: folder,
        }
    }

    /// Writes both blobs of a checkpoint.
    async fn blobs(&self, position: Position, attempt: u32) -> [BlobRef; 2] {
        let Experiment { store, layout, .. } = &self.experiment;
        let attempt = Attempt(attempt);
        let keys = [
            layout.weights(&self.run, position, attempt),
            layout.training_state(&self.run, position, attempt),
        ];
        for key in &keys {
            store.create(key, "bytes".into()).await.unwrap();
        }
        keys.map(|key| BlobRef {
            key,
            blob: Blob::of(b"bytes"),
        })
    }

    /// Commits an epoch that is the best.
    async fn epoch(&self, epoch: u32, attempt: u32) {
        let epoch = Epoch(epoch);
        let [weights, training_state] = self.blobs(Position::end_of(epoch), attempt).await;
        let manifest = Manifest {
            run: self.run.clone(),
            epoch,
            attempt: Attempt(attempt),
            worker: "w".parse().unwrap(),
            revision: quartet_shared::ids::Revision::FIRST,
            committed_at: None,
            metrics: EpochMetrics::default(),
            early_stopping: EarlyStopping {
                best_epoch: epoch,
                best_valid_accuracy: 0.0,
                wait: 0,
            },
            weights,
            training_state,
        };
        let Experiment { store, layout, .. } = &self.experiment;
        let key = layout.manifest(&self.run, epoch);
        store.create_json(&key, &manifest).await.unwrap();
    }

    /// Commits a mid-epoch checkpoint.
    async fn step(&self, epoch: u32, step: u32, attempt: u32) {
        let position = Position::within(Epoch(epoch), step);
        let [weights, training_state] = self.blobs(position, attempt).await;
        let manifest = StepManifest {
            run: self.run.clone(),
            position,
            attempt: Attempt(attempt),
            worker: "w".parse().unwrap(),
            revision: quartet_shared::ids::Revision::FIRST,
            weights,
            training_state,
        };
        let Experiment { store, layout, .. } = &self.experiment;
        let key = layout.step_manifest(&self.run, position);
        store.create_json(&key, &manifest).await.unwrap();
    }

    async fn prune(&self, attempt: u32, position: Position) {
        let commit = Commit {
            run: self.run.clone(),
            attempt: Attempt(attempt),
            position,
        };
        prune(self.experiment.clone(), commit).await;
    }

    /// The names of the weights and of the mid-epoch manifests that are there.
    async fn names(&self) -> Vec<String> {
        let Experiment { store, layout, .. } = &self.experiment;
        let mut keys = store.list(&layout.checkpoints(&self.run)).await.unwrap();
        keys.retain(|key| key.ends_with(".weights.safetensors"));
        keys.extend(store.list(&layout.step_manifests(&self.run)).await.unwrap());
        let name = |key: &String| {
            let name = key.rsplit('/').next().unwrap();
            name.trim_end_matches(".weights.safetensors").to_owned()
        };
        keys.iter().map(name).collect()
    }
}

#[tokio::test]
async fn what_an_attempt_and_those_before_it_left_is_deleted() {
    let kept = Kept::new().await;
    kept.epoch(1, 1).await;
    kept.step(2, 5, 1).await;
    kept.blobs(Position::end_of(Epoch(2)), 1).await;
    kept.epoch(2, 2).await;
    kept.prune(2, Position::end_of(Epoch(2))).await;
    assert_eq!(kept.names().await, ["0002-002"]);
}

#[tokio::test]
async fn what_a_newer_attempt_wrote_is_not_deleted() {
    let kept = Kept::new().await;
    kept.epoch(1, 1).await;
    kept.epoch(2, 1).await;
    // A newer coordinator has rolled the run back, and attempt 2 is on its way to where attempt 1 was.
    kept.blobs(Position::end_of(Epoch(1)), 2).await;
    kept.step(2, 5, 2).await;
    kept.prune(1, Position::end_of(Epoch(2))).await;
    let names = [
        "0001-002",
        "0002-001",
        "0002-002.step-000005",
        "0002-000005.json",
    ];
    assert_eq!(kept.names().await, names);
}

#[tokio::test]
async fn a_coordinator_that_was_replaced_deletes_nothing() {
    let kept = Kept::new().await;
    kept.epoch(1, 1).await;
    kept.step(2, 5, 1).await;
    kept.epoch(2, 1).await;
    let before = kept.names().await;
    let newer = open(kept.experiment.store.clone()).await;
    assert!(newer.term > kept.experiment.term);
    kept.prune(1, Position::end_of(Epoch(2))).await;
    assert_eq!(kept.names().await, before);
    let same = Kept {
        experiment: newer,
        ..kept
    };
    same.prune(1, Position::end_of(Epoch(2))).await;
    assert_eq!(same.names().await, ["0002-001"]);
}
