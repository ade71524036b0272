//! What came out of an experiment, without what differs between any two runs of it: times, attempts, workers.

use std::collections::BTreeMap;

use quartet_shared::blob::Checksum;
use quartet_shared::ids::{Attempt, Epoch, RunName};
use quartet_store::layout::Layout;
use quartet_store::manifest::{Manifest, StoredOutcome};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::stores::StoreUnderTest;

/// The results of a finished experiment: facts by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results(BTreeMap<String, String>);

/// A run's manifests by epoch.
pub type Manifests = BTreeMap<Epoch, Manifest>;

impl Results {
    /// Reads the results, and checks that the store is whole: the manifests of all epochs, and the blobs of
    /// the best and the latest one with the sizes and checksums that their manifests name.
    ///
    /// # Panics
    /// If the experiment has not finished or its store is not whole.
    #[must_use]
    pub fn read(store: &StoreUnderTest, layout: &Layout, runs: &[RunName]) -> Self {
        let mut facts = BTreeMap::new();
        let text = |key: &str| String::from_utf8(store.read(key)).expect("it is text");
        for run in runs {
            let manifests = manifests(store, layout, run);
            let latest = manifests.values().last().expect("an epoch is committed");
            let best = &manifests[&latest.early_stopping.best_epoch];
            let epochs: Vec<u32> = manifests.keys().map(|epoch| epoch.0).collect();
            assert_eq!(epochs, Vec::from_iter(1..=latest.epoch.0), "{run}");
            for blob in [best, latest].map(|kept| [&kept.weights, &kept.training_state]) {
                for object in blob {
                    let bytes = store.read(&object.key);
                    assert_eq!(bytes.len() as u64, object.blob.size, "{}", object.key);
                    assert_eq!(Checksum::of(&bytes), object.blob.sha256, "{}", object.key);
                }
            }
            for (epoch, manifest) in &manifests {
                facts.insert(format!("{run} epoch {:04}", epoch.0), fact(manifest));
            }
            let key = layout.outcome(run);
            let stored: StoredOutcome = parse(&key, &store.read(&key));
            assert_eq!(stored.best_weights.as_ref(), Some(&best.weights), "{run}");
            facts.insert(format!("{run} outcome"), format!("{:?}", stored.outcome));
        }
        let event_files = store.list(&format!("{}/", layout.tensorboard()));
        facts.insert("event files".into(), event_files.join("\n"));
        facts.insert(
            "evaluation".into(),
            text(&layout.results(None).evaluation()),
        );
        facts.insert(
            "table".into(),
            text(&layout.results(None).evaluation_text()),
        );
        facts.insert(
            "predictions".into(),
            text(&layout.results(None).predictions_table()),
        );
        Self(facts)
    }

    /// Compares them with those of an undisturbed experiment.
    ///
    /// # Panics
    /// With all differences, if there are any.
    pub fn assert_same(&self, undisturbed: &Self) {
        let names = self.0.keys().chain(undisturbed.0.keys());
        let mut names: Vec<&String> = names.collect();
        names.sort_unstable();
        names.dedup();
        let differences: Vec<String> = names
            .into_iter()
            .filter(|name| self.0.get(*name) != undisturbed.0.get(*name))
            .map(|name| {
                let [here, there] = [self, undisturbed].map(|results| {
                    let fact = results.0.get(name);
                    fact.map_or("nothing", String::as_str).to_owned()
                });
                format!("{name}: {here}\ninstead of {there}")
            })
            .collect();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

/// What an epoch's manifest says that must not depend on who trained it, and when.
fn fact(manifest: &Manifest) -> String {
    let metrics = manifest.metrics;
    json!({
        "train_loss": metrics.train_loss,
        "train_accuracy": metrics.train_accuracy,
        "valid_loss": metrics.valid_loss,
        "valid_accuracy": metrics.valid_accuracy,
        "early_stopping": manifest.early_stopping,
        "weights": manifest.weights.blob,
        "training_state": manifest.training_state.blob,
    })
    .to_string()
}

/// The manifests of a run that are in the store.
///
/// # Panics
/// If one is not where its epoch belongs.
#[must_use]
pub fn manifests(store: &StoreUnderTest, layout: &Layout, run: &RunName) -> Manifests {
    let keys = store.list(&format!("{}/", layout.manifests(run)));
    keys.into_iter()
        .map(|key| {
            let manifest: Manifest = parse(&key, &store.read(&key));
            assert_eq!(key, layout.manifest(run, manifest.epoch));
            (manifest.epoch, manifest)
        })
        .collect()
}

/// The attempts that trained a run's epochs, in their order.
#[must_use]
pub fn attempts(manifests: &Manifests) -> Vec<Attempt> {
    let manifests = manifests.values();
    manifests.map(|manifest| manifest.attempt).collect()
}

fn parse<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> T {
    serde_json::from_slice(bytes).unwrap_or_else(|e| panic!("{key}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(facts: &[(&str, &str)]) -> Results {
        let facts = facts.iter();
        Results(
            facts
                .map(|(name, fact)| ((*name).into(), (*fact).into()))
                .collect(),
        )
    }

    #[test]
    fn differences_are_named() {
        let undisturbed = results(&[("a", "1"), ("b", "2")]);
        undisturbed.clone().assert_same(&undisturbed);
        for (other, named) in [
            (results(&[("a", "1"), ("b", "3")]), "b: 3\ninstead of 2"),
            (results(&[("a", "1")]), "b: nothing\ninstead of 2"),
            (
                results(&[("a", "1"), ("b", "2"), ("c", "4")]),
                "c: 4\ninstead of nothing",
            ),
        ] {
            let caught = std::panic::catch_unwind(|| other.assert_same(&undisturbed));
            let panic = caught.expect_err("they differ");
            assert_eq!(
                panic.downcast_ref::<String>().map(String::as_str),
                Some(named)
            );
        }
    }
}
