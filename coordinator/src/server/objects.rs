//! Objects of the store, as workers read them.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use quartet_proto::v1;
use tonic::Status;

use super::shell::Shell;
use quartet_store::StoreError;

/// Largest piece of an object in one message.
const CHUNK_SIZE: usize = 1 << 20;

/// Reads an object that workers read, and no other: what a client asks for must not end the coordinator.
pub(super) async fn read(
    shell: Arc<Shell>,
    key: String,
    offset: u64,
) -> Result<impl Stream<Item = Result<v1::GetObjectResponse, Status>> + Send + use<>, Status> {
    let experiment = &shell.experiment;
    if !experiment.layout.is_for_workers(&key) {
        return Err(Status::permission_denied(format!(
            "{key:?} is not an object that workers read"
        )));
    }
    let chunks = match experiment.store.read_from(&key, offset).await {
        Ok(chunks) => chunks,
        Err(error) => {
            // Nothing is there if the store itself is gone; that is no failure of the task.
            if matches!(error, StoreError::NotFound { .. }) {
                shell.verify_leadership().await?;
            }
            return Err(shell.store_failed(error));
        }
    };
    Ok(chunks.flat_map(move |chunk| {
        let pieces: Vec<_> = match chunk {
            Ok(bytes) => (0..bytes.len())
                .step_by(CHUNK_SIZE)
                .map(|start| bytes.slice(start..bytes.len().min(start + CHUNK_SIZE)))
                .map(|chunk| Ok(v1::GetObjectResponse { chunk }))
                .collect(),
            Err(error) => vec![Err(shell.store_failed(error))],
        };
        futures::stream::iter(pieces)
    }))
}
