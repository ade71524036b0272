//! Manifests that do not count any more: they are kept where nobody takes them for those of the run.

use quartet_shared::ids::RunName;
use quartet_store::{Creation, StoreError};

use super::Experiment;

/// Takes manifests of a run out of use.
pub(crate) struct Bin<'a> {
    experiment: &'a Experiment,
    run: &'a RunName,
    empty: bool,
}

impl<'a> Bin<'a> {
    /// An empty one.
    pub(crate) fn new(experiment: &'a Experiment, run: &'a RunName) -> Self {
        Self {
            experiment,
            run,
            empty: true,
        }
    }

    /// Takes a manifest out of use, and the outcome before the first one: a run with an outcome counts as
    /// finished, whatever else is there.
    pub(crate) async fn take(&mut self, key: &str) -> Result<(), StoreError> {
        self.take_outcome().await?;
        self.discard(key).await
    }

    /// Takes the outcome out of use.
    pub(crate) async fn take_outcome(&mut self) -> Result<(), StoreError> {
        if self.empty {
            self.discard(&self.experiment.layout.outcome(self.run))
                .await?;
            self.empty = false;
        }
        Ok(())
    }

    /// Moves an object, if it is there, to the folder of discarded objects.
    async fn discard(&self, key: &str) -> Result<(), StoreError> {
        let Experiment {
            store,
            layout,
            term,
            ..
        } = self.experiment;
        let Some(value) = store.read_json::<serde_json::Value>(key).await? else {
            return Ok(());
        };
        let name = key.rsplit('/').next().unwrap_or(key);
        let name = name.strip_suffix(".json").unwrap_or(name);
        let folder = format!("{}/{:06}", layout.discarded(self.run), term.0);
        let mut copy = format!("{folder}/{name}.json");
        let mut number = 1;
        // In one term several may have had the same name.
        while store.create_json(&copy, &value).await? == Creation::Exists
            && store.read_json::<serde_json::Value>(&copy).await?.as_ref() != Some(&value)
        {
            number += 1;
            copy = format!("{folder}/{name}-{number}.json");
        }
        store.delete(key).await
    }
}
