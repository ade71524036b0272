//! Objects of the store, as workers read them.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use quartet_proto::v1;
use quartet_store::layout;
use tonic::Status;

use super::shell::Shell;
use quartet_store::StoreError;

/// Largest piece of an object in one message.
const CHUNK_SIZE: usize = 1 << 20;

/// Reads an object of the experiment, or one of those that all experiments share.
pub(super) async fn read(
    shell: Arc<Shell>,
    key: String,
) -> Result<impl Stream<Item = Result<v1::GetObjectResponse, Status>> + Send + use<>, Status> {
    let experiment = &shell.experiment;
    let shared = layout::SHARED.map(|folder| format!("{folder}/"));
    let served = key.starts_with(&experiment.layout.prefix())
        || shared.iter().any(|folder| key.starts_with(folder));
    let is_odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if !served || key.split('/').any(is_odd) {
        return Err(Status::permission_denied(format!(
            "{key:?} is not an object of this experiment"
        )));
    }
    let chunks = match experiment.store.read(&key).await {
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
