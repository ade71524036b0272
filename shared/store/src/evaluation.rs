//! Which evaluation of an experiment counts.

use crate::layout::Layout;
use crate::{Store, StoreError};

/// The key of the evaluation of all runs, else that of the newest of those that lack some.
///
/// # Errors
/// The store fails.
pub async fn newest_evaluation(
    store: &Store,
    layout: &Layout,
) -> Result<Option<String>, StoreError> {
    let whole = layout.results(None).evaluation();
    if store.exists(&whole).await? {
        return Ok(Some(whole));
    }
    let mut partial = store.list(&layout.partial_results()).await?;
    partial.retain(|key| key.ends_with("/evaluation.json"));
    Ok(partial.pop())
}
