//! The queue of a store: the experiments that its coordinator trains one after the other.
//!
//! An entry is an object that names an experiment, which the store has; another one, of the same number, says
//! how it has ended. One coordinator at a time rules the queue, as one leads an experiment, and only it
//! writes. What it has in memory is a cache of the store.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use quartet_proto::channel::Connector;
use quartet_shared::clock::Timestamp;
use quartet_shared::ids::{ExperimentName, Term};
use quartet_shared::spec::Precision;
use quartet_store::layout::queue as keys;
use quartet_store::{Creation, Store, StoreError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::leadership::{self, LeadershipError, Led};

/// Objects that are read at a time.
const AT_ONCE: usize = 16;

/// What was submitted, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The experiment, which the store has.
    pub experiment: ExperimentName,
    /// Those of a higher one come first.
    #[serde(default)]
    pub priority: i32,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// The name of the keys that it was submitted with, if any were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<String>,
    /// What the experiment is computed in.
    pub precision: Precision,
    /// Tells this entry from all others.
    nonce: u64,
}

/// How an entry has ended, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// In which way.
    pub how: How,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// In which way an entry has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The ensemble is evaluated.
    Finished,
    /// A run failed for good, or the experiment cannot be trained.
    Failed,
    /// Somebody took it out.
    Cancelled,
}

/// An entry with what has become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What was submitted.
    pub entry: Entry,
    /// How it has ended, if it has.
    pub ended: Option<Ended>,
}

/// The queue, as the coordinator that rules it knows it.
#[derive(Debug)]
pub struct Queue {
    store: Store,
    term: Term,
    known: Mutex<BTreeMap<u32, Known>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
}

impl Queue {
    /// Claims the queue of a store, and reads it.
    ///
    /// # Errors
    /// Another coordinator rules it and answers ([`OtherLeader`](leadership::OtherLeader)), or the store
    /// fails.
    pub async fn open(
        store: Store,
        address: &str,
        connectors: &[&Connector],
    ) -> anyhow::Result<Self> {
        let claims = keys::claims();
        let newest = leadership::newest(&store, &claims).await?;
        if let Some(newest) = &newest {
            let led = Led::Queue;
            leadership::refuse_beside_a_live_one(&store, &claims, newest, &led, connectors).await?;
        }
        let last = newest.map_or(Term(0), |newest| newest.term);
        let term = leadership::claim(&store, &claims, last, address).await?;
        let entries = read_all::<Entry>(&store, &keys::entries()).await?;
        let mut ended = read_all::<Ended>(&store, &keys::all_ended()).await?;
        let known = entries.into_iter().map(|(number, entry)| {
            let ended = ended.remove(&number);
            (number, Known { entry, ended })
        });
        let known = known.collect();
        Ok(Self {
            store,
            term,
            known: Mutex::new(known),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// This coordinator's claim.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u32, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Verifies that no newer coordinator has claimed the queue, and that the store still has our claim.
    ///
    /// # Errors
    /// One has, or the store is gone or fails.
    pub async fn verify_leadership(&self) -> Result<(), LeadershipError> {
        leadership::verify(&self.store, &keys::claims(), self.term, || Led::Queue).await
    }

    /// Records that this coordinator rules the queue no more.
    ///
    /// # Errors
    /// A newer coordinator has claimed the queue, or the store fails.
    pub async fn close_term(&self) -> Result<(), LeadershipError> {
        self.verify_leadership().await?;
        Ok(leadership::close(&self.store, &keys::claims(), self.term).await?)
    }

    /// What waits or is trained, in the order in which workers come to it, with its numbers.
    #[must_use]
    pub fn waiting(&self) -> Vec<(u32, Entry)> {
        let known = self.known();
        let open = known.iter().filter(|(_, known)| known.ended.is_none());
        let mut open: Vec<_> = open
            .map(|(number, known)| (*number, known.entry.clone()))
            .collect();
        open.sort_by_key(|(number, entry)| (std::cmp::Reverse(entry.priority), *number));
        open
    }

    /// What has ended, the last first.
    #[must_use]
    pub fn ended(&self) -> Vec<(Entry, Ended)> {
        let known = self.known();
        let ended = known.values().filter_map(|known| {
            let ended = known.ended.clone()?;
            Some((known.entry.clone(), ended))
        });
        let mut ended: Vec<_> = ended.collect();
        ended.sort_by_key(|(_, ended)| std::cmp::Reverse(ended.at));
        ended
    }

    /// The number of the entry of an experiment that waits or is trained.
    #[must_use]
    pub fn find(&self, experiment: &ExperimentName) -> Option<u32> {
        let known = self.known();
        let mut open = known.iter().filter(|(_, known)| known.ended.is_none());
        let found = open.find(|(_, known)| known.entry.experiment == *experiment);
        found.map(|(number, _)| *number)
    }

    /// Whether an entry has ended.
    #[must_use]
    pub fn has_ended(&self, number: u32) -> bool {
        let known = self.known();
        known.get(&number).is_none_or(|known| known.ended.is_some())
    }

    /// Adds an experiment, which the store has, unless it waits or is trained already. Returns whether it was
    /// added.
    ///
    /// # Errors
    /// A newer coordinator rules the queue, or the store fails.
    pub async fn add(
        &self,
        experiment: ExperimentName,
        precision: Precision,
        priority: i32,
        submitted_by: Option<String>,
    ) -> anyhow::Result<bool> {
        let _one = self.changing.lock().await;
        if self.find(&experiment).is_some() {
            return Ok(false);
        }
        let entry = Entry {
            experiment,
            priority,
            submitted_at: Timestamp::now(),
            submitted_by,
            precision,
            nonce: rand::random(),
        };
        loop {
            self.verify_leadership().await?;
            let last = self.known().keys().next_back().copied();
            let number = last.unwrap_or(0) + 1;
            let key = keys::entry(number);
            let created = self.store.create_json(&key, &entry).await?;
            let there = match created {
                Creation::Created => entry.clone(),
                Creation::Exists => {
                    let there: Option<Entry> = self.store.read_json(&key).await?;
                    there.with_context(|| format!("{key} is there, and then it is not"))?
                }
            };
            let is_this = there == entry;
            let is_of_it = there.experiment == entry.experiment;
            // An answer was lost, or an older coordinator was late.
            let ended = match is_this {
                true => None,
                false => self.store.read_json::<Ended>(&keys::ended(number)).await?,
            };
            let is_open = ended.is_none();
            let known = Known {
                entry: there,
                ended,
            };
            self.known().insert(number, known);
            if is_this || (is_of_it && is_open) {
                return Ok(is_this);
            }
        }
    }

    /// Records how an entry has ended. The first word counts. Returns whether it was this one.
    ///
    /// # Errors
    /// A newer coordinator rules the queue, or the store fails.
    pub async fn end(&self, number: u32, how: How, reason: &str) -> Result<bool, LeadershipError> {
        let _one = self.changing.lock().await;
        if self.has_ended(number) {
            return Ok(false);
        }
        let ended = Ended {
            how,
            reason: reason.to_owned(),
            at: Timestamp::now(),
        };
        self.verify_leadership().await?;
        let key = keys::ended(number);
        let created = self.store.create_json(&key, &ended).await?;
        let ended = match created {
            Creation::Created => ended,
            Creation::Exists => self.store.read_json(&key).await?.unwrap_or(ended),
        };
        let was_this = ended.how == how;
        if let Some(known) = self.known().get_mut(&number) {
            known.ended = Some(ended);
        }
        Ok(was_this)
    }
}

/// The numbered objects of a folder of the queue.
async fn read_all<T: DeserializeOwned>(
    store: &Store,
    folder: &str,
) -> Result<BTreeMap<u32, T>, StoreError> {
    let keys = store.list(folder).await?;
    let numbered = keys
        .into_iter()
        .filter_map(|key| Some((keys::number(&key)?, key)));
    let read = stream::iter(numbered).map(|(number, key)| async move {
        let value: Option<T> = store.read_json(&key).await?;
        Ok::<_, StoreError>(value.map(|value| (number, value)))
    });
    let read: Vec<_> = read.buffered(AT_ONCE).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}
