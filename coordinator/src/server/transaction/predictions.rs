//! What a member of the ensemble says of the evaluated images: it is kept for later evaluations, for
//! `predictions.csv` and for the report.
//!
//! Nothing here pins the lease. Predictions hold for the weights that their manifest names, whoever computed
//! them, and each attempt at the evaluation has keys of its own.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use quartet_proto::v1::{self, keep_predictions_request::Part};
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::position::Position;
use quartet_shared::predictions::{InvalidPredictions, Shape};
use quartet_shared::task::{LeaseId, Task};
use quartet_shared::wire::required;
use quartet_store::manifest::PredictionsManifest;
use quartet_store::{Creation, PIECE_SIZE, Store, StoreError};
use tonic::{Status, Streaming};

use super::receive::Receiver;
use super::sender::Sender;
use crate::experiment::Experiment;
use crate::server::assignment::{AssignmentError, best_manifest};
use crate::server::refusal::{bad, refused};
use crate::server::shell::Shell;
use crate::server::store_trouble::Proof;

/// The manifests of predictions that are being taken.
#[derive(Debug, Default)]
pub(in crate::server) struct Keeping(Mutex<HashSet<String>>);

/// Someone's turn to write what a manifest names.
struct Turn<'a> {
    keeping: &'a Keeping,
    key: String,
}

impl Keeping {
    fn keys(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` while another has the turn.
    fn begin(&self, key: &str) -> Option<Turn<'_>> {
        let key = key.to_owned();
        let is_new = self.keys().insert(key.clone());
        is_new.then_some(Turn { keeping: self, key })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.keeping.keys().remove(&self.key);
    }
}

/// Takes the upload of a member's predictions, checks them and keeps them.
pub(in crate::server) async fn keep_predictions(
    shell: Arc<Shell>,
    parts: Streaming<v1::KeepPredictionsRequest>,
) -> Result<(), Status> {
    let mut parts = Sender::new(parts);
    let Some(v1::KeepPredictionsRequest {
        part: Some(Part::Header(header)),
    }) = parts.next().await?
    else {
        return Err(Status::invalid_argument(
            "the first message must be a header",
        ));
    };
    let lease: LeaseId = required(header.lease, "lease").map_err(bad)?;
    shell.verify_secret(&lease.worker, &header.secret)?;
    if lease.task != Task::Evaluate {
        return Err(Status::invalid_argument(
            "only the evaluation has predictions",
        ));
    }
    let run: RunName = header.run.parse().map_err(bad)?;
    let weights: Blob = required(header.weights, "weights").map_err(bad)?;
    let predictions: Blob = required(header.predictions, "predictions").map_err(bad)?;
    let check_lease = || shell.scheduler.read(|s, _| s.check_lease(&lease));
    check_lease().map_err(refused)?;
    let manifest = manifest(&shell, &lease, run, weights, predictions).await?;
    let Experiment { store, layout, .. } = &shell.experiment;
    let failed = |error: StoreError| shell.store_failed(error);
    let shape = Shape::of_summary(shell.dataset().await?);
    if predictions.size != shape.size() {
        let (found, expected) = (predictions.size, shape.size());
        return Err(bad(InvalidPredictions::Size { found, expected }));
    }

    let key = layout.predictions_manifest(&manifest.run, manifest.epoch, manifest.attempt);
    // A worker that asks again must not write what it writes already.
    let _turn = shell
        .keeping_predictions
        .begin(&key)
        .ok_or_else(|| Status::aborted("these predictions are on their way already"))?;
    match store
        .read_json::<PredictionsManifest>(&key)
        .await
        .map_err(failed)?
    {
        Some(kept) if kept == manifest => return Ok(()),
        Some(_) => return Err(bad("other predictions are kept of this attempt")),
        None => {}
    }
    parts.expect(predictions.size);
    let object = &manifest.predictions;
    // Members are computed in the order of the spec, so that each upload is farther than those before it.
    let runs = &shell.experiment.spec.experiment.runs;
    let number = runs
        .iter()
        .take_while(|run| run.name != manifest.run)
        .count();
    let position = Position::end_of(Epoch(u32::try_from(number).unwrap_or(u32::MAX)));
    let progress = |bytes| {
        let scheduler = &shell.scheduler;
        scheduler.note(|scheduler, now| scheduler.report_upload(&lease, position, bytes, now));
    };
    Receiver::new(&shell, &mut parts, progress)
        .blobs([object])
        .await?;
    if let Err(invalid) = check(store, &object.key, &shape).await.map_err(failed)? {
        store.delete(&object.key).await.map_err(failed)?;
        return Err(bad(invalid));
    }
    check_lease().map_err(refused)?;
    shell.verify_leadership().await?;
    if store.create_json(&key, &manifest).await.map_err(failed)? == Creation::Exists {
        return Err(bad("other predictions are kept of this attempt"));
    }
    shell.store_works(Proof::Write);
    tracing::info!(run = %manifest.run, epoch = %manifest.epoch, "predictions kept");
    Ok(())
}

/// The manifest that a header describes, if it is about the best weights of the run.
async fn manifest(
    shell: &Shell,
    lease: &LeaseId,
    run: RunName,
    weights: Blob,
    predictions: Blob,
) -> Result<PredictionsManifest, Status> {
    if shell.experiment.spec.experiment.run(&run).is_none() {
        return Err(bad(format!("there is no run {run}")));
    }
    let best = match best_manifest(shell, &run).await {
        Ok(best) => best,
        Err(AssignmentError::Store(error)) => return Err(shell.store_failed(error)),
        Err(AssignmentError::Missing(missing)) => {
            return Err(Status::failed_precondition(missing.to_string()));
        }
    };
    if best.weights.blob != weights {
        return Err(Status::failed_precondition(format!(
            "these are not the best weights of {run}"
        )));
    }
    let layout = &shell.experiment.layout;
    let key = layout.predictions(&run, best.epoch, lease.attempt);
    Ok(PredictionsManifest {
        epoch: best.epoch,
        attempt: lease.attempt,
        worker: lease.worker.clone(),
        weights: best.weights,
        predictions: BlobRef {
            key,
            blob: predictions,
        },
        run,
    })
}

/// Whether an object of the right size has predictions for the experiment's data.
async fn check(
    store: &Store,
    key: &str,
    shape: &Shape,
) -> Result<Result<(), InvalidPredictions>, StoreError> {
    let header = shape.header();
    let found = store.read_piece(key, 0..header.len() as u64).await?;
    if found != header {
        return Ok(Err(InvalidPredictions::Header));
    }
    for &(split, images) in shape.splits() {
        let rows = shape.rows(split, &(0..images));
        // Whole rows.
        let row = (shape.classes() * size_of::<f32>()) as u64;
        let piece = (PIECE_SIZE as u64 / row).max(1) * row;
        for start in rows
            .clone()
            .step_by(usize::try_from(piece).unwrap_or(usize::MAX))
        {
            let bytes = store
                .read_piece(key, start..rows.end.min(start + piece))
                .await?;
            let first = (start - rows.start) / row;
            if let Err(invalid) = shape.read_rows(split, first, &bytes) {
                return Ok(Err(invalid));
            }
        }
    }
    Ok(Ok(()))
}
