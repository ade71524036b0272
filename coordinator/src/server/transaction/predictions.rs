//! What a member of the ensemble says of the evaluated images: it is kept for later evaluations, for
//! `predictions.csv` and for the report.
//!
//! Predictions hold for the weights that their manifest names, whoever computed them, and each attempt at the
//! evaluation has keys of its own.

use std::sync::Arc;

use quartet_proto::v1::{self, keep_predictions_request::Part};
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::ids::RunName;
use quartet_shared::predictions::{InvalidPredictions, Shape};
use quartet_shared::task::LeaseId;
use quartet_shared::wire::required;
use quartet_store::manifest::PredictionsManifest;
use quartet_store::{Creation, PIECE_SIZE, Store, StoreError};
use tonic::{Status, Streaming};

use super::Transaction;
use super::receive::Receiver;
use super::sender::Sender;
use crate::experiment::Experiment;
use crate::server::assignment::{AssignmentError, best_manifest};
use crate::server::refusal::{bad, refused};
use crate::server::registry::Registry;
use crate::server::shell::Shell;
use crate::server::store_trouble::Proof;

/// Takes the upload of a member's predictions, checks them and keeps them.
pub(in crate::server) async fn keep_predictions(
    registry: Arc<Registry>,
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
    let shell = registry.of_lease(header.lease.as_ref())?;
    let lease: LeaseId = required(header.lease, "lease").map_err(bad)?;
    shell.verify_secret(&lease.worker, &header.secret)?;
    let run: RunName = header.run.parse().map_err(bad)?;
    let weights: Blob = required(header.weights, "weights").map_err(bad)?;
    let predictions: Blob = required(header.predictions, "predictions").map_err(bad)?;
    let scheduler = &shell.scheduler;
    let ticket = scheduler
        .tell(|scheduler, now| scheduler.begin_keep(&lease, &run, now))
        .map_err(refused)?;
    let place = ticket.place();
    let transaction = Transaction::new(&shell, ticket, |scheduler, ticket, now| {
        scheduler.end_keep(ticket, false, now);
    });
    let manifest = manifest(&shell, &lease, run, weights, predictions).await?;
    let Experiment { store, layout, .. } = &shell.experiment;
    let failed = |error: StoreError| shell.store_failed(error);
    let shape = Shape::of_summary(shell.dataset().await?);
    if predictions.size != shape.size() {
        let (found, expected) = (predictions.size, shape.size());
        return Err(bad(InvalidPredictions::Size { found, expected }));
    }

    let key = layout.predictions_manifest(&manifest.run, manifest.epoch, manifest.attempt);
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
    let progress = |bytes| {
        scheduler.note(|scheduler, now| scheduler.report_upload(&lease, place, bytes, now));
    };
    Receiver::new(store, &failed, &mut parts, progress)
        .blobs([object])
        .await?;
    if let Err(invalid) = check(store, &object.key, &shape).await.map_err(failed)? {
        store.delete(&object.key).await.map_err(failed)?;
        return Err(bad(invalid));
    }
    shell.verify_leadership().await?;
    if store.create_json(&key, &manifest).await.map_err(failed)? == Creation::Exists {
        return Err(bad("other predictions are kept of this attempt"));
    }
    shell.store_works(Proof::Write);
    transaction.end(|scheduler, ticket, now| scheduler.end_keep(ticket, true, now));
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
