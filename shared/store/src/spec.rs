//! Which form of an experiment counts.

use quartet_shared::ids::RunName;
use quartet_shared::spec::ExperimentSpec;

use crate::layout::Layout;
use crate::manifest::StoredSpec;
use crate::{Store, StoreError};

/// The newest form of an experiment; `None` if the store does not have the experiment.
///
/// # Errors
/// The store fails, or the object cannot be read.
pub async fn newest_spec(store: &Store, layout: &Layout) -> Result<Option<StoredSpec>, StoreError> {
    let newest = store.newest(&layout.revisions()).await?;
    store
        .read_json(&newest.unwrap_or_else(|| layout.spec()))
        .await
}

/// The newest form of an experiment that had a run which later ones do not have.
///
/// # Errors
/// The store fails, or an object cannot be read.
pub async fn last_with(
    store: &Store,
    layout: &Layout,
    run: &RunName,
) -> Result<Option<ExperimentSpec>, StoreError> {
    let mut forms = vec![layout.spec()];
    forms.extend(store.list(&layout.revisions()).await?);
    for key in forms.iter().rev() {
        let form: Option<StoredSpec> = store.read_json(key).await?;
        if let Some(form) = form.filter(|form| form.experiment.run(run).is_some()) {
            return Ok(Some(form.experiment));
        }
    }
    Ok(None)
}
