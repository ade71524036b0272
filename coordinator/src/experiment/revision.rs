//! What may change in an experiment that the store has, and what comes of that.
//!
//! What is done is kept. A run goes on from its last checkpoint where it would have been trained in the same
//! way from the start; otherwise it begins anew, which is refused where epochs would be lost that nobody gave
//! up: those of a run that has not failed.

use std::collections::{BTreeMap, BTreeSet};

use quartet_history::EpochSummary;
use quartet_ingest::weights::{DownloadProgress, StoredWeights};
use quartet_shared::clock::Timestamp;
use quartet_shared::ids::RunName;
use quartet_shared::spec::{Change, Effect, ExperimentSpec, RunSpec, changes};
use quartet_shared::task::Task;
use quartet_store::layout::Layout;
use quartet_store::manifest::{Revised, StoredSpec};
use quartet_store::spec::last_with;
use quartet_store::{Store, StoreError};

use super::create::{InitialWeights, has_same_weights};
use super::{Mismatch, Request};

/// A change, and the weights that runs begin with then.
#[derive(Debug)]
pub(super) struct Prepared {
    wanted: Wanted,
    weights: StoredWeights,
}

impl Prepared {
    /// The next form of the experiment, if what is done by now allows the change.
    ///
    /// # Errors
    /// The change is refused ([`Mismatch`]), or the store fails.
    pub(super) async fn revise(
        &self,
        store: &Store,
        layout: &Layout,
        stored: &StoredSpec,
    ) -> anyhow::Result<StoredSpec> {
        let Wanted {
            spec, note, tags, ..
        } = &self.wanted;
        let known = Known::read(store, layout, stored, spec).await?;
        let revised = self.wanted.revise(stored, &known)?;
        // Those of removed runs are kept: they may be added again.
        let mut weights = stored.weights.clone();
        weights.retain(|run, _| spec.run(run).is_none());
        weights.extend(self.weights.objects.clone());
        let mut origins = stored.origins.clone();
        origins.retain(|run, _| spec.run(run).is_none());
        origins.extend(self.weights.origins.clone());
        Ok(StoredSpec {
            id: Some(super::identity(stored)?),
            experiment: spec.clone(),
            weights,
            origins,
            note: note.clone(),
            tags: tags.clone(),
            revised: Some(revised),
            ..stored.clone()
        })
    }
}

/// What is asked for of an experiment that is otherwise.
#[derive(Debug)]
pub(super) struct Wanted {
    spec: ExperimentSpec,
    changes: Vec<Change>,
    note: Option<String>,
    tags: Vec<String>,
}

impl Wanted {
    /// What is asked for; `None` if the experiment is like that.
    ///
    /// # Errors
    /// It is not, and the request does not ask for a change ([`Mismatch`]); or a setting cannot be used.
    pub(super) fn of(stored: &StoredSpec, request: &Request) -> anyhow::Result<Option<Self>> {
        let spec = request.wanted(Some(&stored.experiment))?;
        let changes = changes(&stored.experiment, &spec);
        let name = &spec.name;
        let note = request.note.clone().or(stored.note.clone());
        let tags = match &request.tags[..] {
            [] => stored.tags.clone(),
            tags => tags.to_vec(),
        };
        let has_other_words = note != stored.note || tags != stored.tags;
        if changes.is_empty() && !has_other_words {
            return Ok(None);
        }
        if !request.update && !changes.is_empty() {
            return Err(Mismatch(format!(
                "experiment {name} exists and differs from the one given: {}; --update changes it, \
                 --name begins another; leave --experiment and --set out to go on with it as it is",
                shortened(&changes)
            ))
            .into());
        }
        if !request.update {
            return Err(Mismatch(format!(
                "experiment {name} exists, with another --note or other --tag; --update changes them, \
                 leave them out to go on with it as it is"
            ))
            .into());
        }
        Ok(Some(Self {
            spec,
            changes,
            note,
            tags,
        }))
    }

    /// Brings the weights that it needs into the store, if what is done allows the change.
    ///
    /// # Errors
    /// The change is refused ([`Mismatch`]), weights cannot be had, or the store fails.
    pub(super) async fn prepare(
        self,
        store: &Store,
        layout: &Layout,
        stored: &StoredSpec,
        request: &Request,
        progress: &mut DownloadProgress,
    ) -> anyhow::Result<Prepared> {
        let known = Known::read(store, layout, stored, &self.spec).await?;
        self.revise(stored, &known)?;
        let of_before = |run: &RunSpec| {
            let before = known.get(&run.name)?.before.as_ref()?;
            has_same_weights(before.run(&run.name)?, run).then_some(stored)
        };
        let options = request.weights.clone();
        let weights = InitialWeights::of(&self.spec.runs, store, of_before, options).await?;
        let (weights, _) = weights.put(store, progress).await?;
        Ok(Prepared {
            wanted: self,
            weights,
        })
    }

    /// What comes of the change.
    fn revise(
        &self,
        stored: &StoredSpec,
        known: &BTreeMap<RunName, Known>,
    ) -> Result<Revised, Mismatch> {
        let revision = stored.revision().next();
        let before = stored.revised.as_ref();
        let mut changed = before.map_or_else(BTreeMap::new, |before| before.changed.clone());
        let mut begun = before.map_or_else(BTreeMap::new, |before| before.begun.clone());
        let mut refused = Vec::new();
        let mut lost = Vec::new();
        for Known {
            run,
            before,
            is_present,
            epochs,
            has_failed,
        } in known.values()
        {
            let Some(before) = before else { continue };
            let changes = changes(before, &self.spec);
            let with = |effect| {
                let mut of = changes.iter().filter(|change| change.is_of(run));
                of.find(|change| change.effect() == Some(effect))
            };
            if let Some(other) = with(Effect::Training) {
                // One that was taken out of the experiment was given up.
                if let Some(last) = epochs.last().filter(|_| *is_present && !has_failed) {
                    let trained = number(last.epoch.0);
                    refused.push(format!(
                        "{other}, but run {run} has been trained for {trained} otherwise"
                    ));
                }
                if let Some(last) = epochs.last() {
                    let trained = number(last.epoch.0);
                    lost.push(format!("run {run} begins anew, its {trained} do not count"));
                }
                begun.insert(run.clone(), revision);
                changed.insert(run.clone(), revision);
            } else {
                refused.extend(too_short(&self.spec, run, epochs));
                if with(Effect::Length).is_some() {
                    changed.insert(run.clone(), revision);
                }
            }
        }
        if let [first, rest @ ..] = &refused[..] {
            let more = match rest.len() {
                0 => String::new(),
                1 => " (and 1 other run)".to_owned(),
                more => format!(" (and {more} other runs)"),
            };
            let name = &stored.experiment.name;
            return Err(Mismatch(format!(
                "experiment {name} cannot be changed so: {first}{more}; --fork {name} --name NEW begins \
                 another experiment with the same data and weights"
            )));
        }
        let mut told: Vec<String> = self.changes.iter().map(Change::to_string).collect();
        told.extend(lost);
        if self.note != stored.note {
            told.extend(self.note.iter().map(|note| format!("note: {note}")));
        }
        if self.tags != stored.tags {
            told.push(format!("tags: {}", self.tags.join(", ")));
        }
        Ok(Revised {
            revision,
            at: Timestamp::now(),
            changes: told,
            changed,
            begun,
            evaluated: match self.changes.is_empty() {
                true => stored.changed(&Task::Evaluate),
                false => revision,
            },
        })
    }
}

/// The first changes.
fn shortened(changes: &[Change]) -> String {
    const MOST: usize = 3;
    let mut told: Vec<String> = changes.iter().take(MOST).map(Change::to_string).collect();
    if changes.len() > MOST {
        told.push(format!("and {} more", changes.len() - MOST));
    }
    told.join(", ")
}

fn number(epochs: u32) -> String {
    match epochs {
        1 => "1 epoch".to_owned(),
        epochs => format!("{epochs} epochs"),
    }
}

/// Why a run has been trained for longer than is asked for, if it has.
fn too_short(spec: &ExperimentSpec, run: &RunName, epochs: &[EpochSummary]) -> Option<String> {
    let (asked, patience) = (spec.epochs, spec.patience);
    let (last, earlier) = epochs.split_last()?;
    if last.epoch.0 > asked {
        let trained = number(last.epoch.0);
        return Some(format!(
            "epochs = {asked}, but run {run} has been trained for {trained}"
        ));
    }
    let mut states = earlier.iter().map(|epoch| epoch.early_stopping);
    let stopped = states.find(|state| state.should_stop(patience))?;
    Some(format!(
        "patience = {patience}, but run {run} went on after {} without improvement",
        number(stopped.wait)
    ))
}

/// What the store knows of a run that is asked for.
#[derive(Debug)]
struct Known {
    run: RunName,
    /// The last form of the experiment that has it.
    before: Option<ExperimentSpec>,
    /// Whether that is the present one.
    is_present: bool,
    /// Its committed epochs.
    epochs: Vec<EpochSummary>,
    has_failed: bool,
}

impl Known {
    async fn read(
        store: &Store,
        layout: &Layout,
        stored: &StoredSpec,
        wanted: &ExperimentSpec,
    ) -> anyhow::Result<BTreeMap<RunName, Self>> {
        let record = quartet_history::read(store, &wanted.name).await?;
        // What cannot be read may be an epoch that a change would lose.
        if let Some(reason) = record.unreadable.first() {
            return Err(Mismatch(format!(
                "experiment {} cannot be changed while something of it cannot be read: {reason}",
                wanted.name
            ))
            .into());
        }
        let mut known = BTreeMap::new();
        let names: BTreeSet<&RunName> = wanted.runs.iter().map(|run| &run.name).collect();
        for run in names {
            let present = record.runs.iter().find(|known| known.spec.name == *run);
            let (before, epochs) = match present {
                Some(record) => (Some(stored.experiment.clone()), record.epochs.clone()),
                None => Self::removed(store, layout, stored, run).await?,
            };
            known.insert(
                run.clone(),
                Self {
                    run: run.clone(),
                    before,
                    is_present: present.is_some(),
                    epochs,
                    has_failed: present.is_some_and(|record| record.failure.is_some()),
                },
            );
        }
        Ok(known)
    }

    /// A run that the present form of the experiment does not have.
    async fn removed(
        store: &Store,
        layout: &Layout,
        stored: &StoredSpec,
        run: &RunName,
    ) -> Result<(Option<ExperimentSpec>, Vec<EpochSummary>), StoreError> {
        let Some(before) = last_with(store, layout, run).await? else {
            return Ok((None, Vec::new()));
        };
        let epochs = quartet_history::read_epochs(store, layout, run, stored.begun(run)).await?;
        Ok((Some(before), epochs))
    }
}

#[cfg(test)]
mod tests;
