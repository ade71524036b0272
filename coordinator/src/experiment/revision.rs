//! What may change in an experiment that the store has, and what comes of that.
//!
//! What is done is kept. A run goes on from its last checkpoint where it would have been trained in the same
//! way from the start; otherwise it begins anew, which is refused where epochs would be lost that nobody gave
//! up: those of a run that has not failed.

use std::collections::{BTreeMap, BTreeSet};

use quartet_history::EpochSummary;
use quartet_ingest::weights::DownloadProgress;
use quartet_shared::clock::Timestamp;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::RunName;
use quartet_shared::spec::{Change, Effect, ExperimentSpec, RunSpec, changes};
use quartet_shared::task::Task;
use quartet_store::layout::Layout;
use quartet_store::manifest::{Revised, StoredSpec};
use quartet_store::spec::last_with;
use quartet_store::{Store, StoreError};

use super::create::{InitialWeights, shared};
use super::{Mismatch, Request};

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
        let spec = match request.spec_is_explicit || !request.settings.is_empty() {
            true => spec,
            false => stored.experiment.clone(),
        };
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

    /// The next form of the experiment, if what is done allows it. Weights that it needs are in the store
    /// then.
    ///
    /// # Errors
    /// The change is refused ([`Mismatch`]), weights cannot be had, or the store fails.
    pub(super) async fn accept(
        self,
        store: &Store,
        layout: &Layout,
        stored: &StoredSpec,
        request: &Request,
        progress: &mut DownloadProgress,
    ) -> anyhow::Result<StoredSpec> {
        let known = Known::read(store, layout, stored, &self.spec).await?;
        let revised = self.revise(stored, &known)?;
        let of_before = |run: &RunSpec| {
            let before = known.get(&run.name)?.before.as_ref()?;
            shared(stored, before.run(&run.name)?, run)
        };
        let options = request.weights.clone();
        let weights = InitialWeights::of(&self.spec.runs, of_before, options)?;
        let (new, _) = weights.put(store, progress).await?;
        // Those of removed runs are kept: they may be added again.
        let mut weights = stored.weights.clone();
        weights.retain(|run, _| self.spec.run(run).is_none());
        weights.extend(new);
        Ok(StoredSpec {
            id: Some(super::identity(stored)?),
            experiment: self.spec,
            weights,
            note: self.note,
            tags: self.tags,
            revised: Some(revised),
            ..stored.clone()
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
        for Known {
            run,
            before,
            is_present,
            states,
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
                if *is_present && !has_failed && !states.is_empty() {
                    refused.push(format!(
                        "{other}, but run {run} has been trained for {} otherwise",
                        epochs(states.len())
                    ));
                }
                begun.insert(run.clone(), revision);
                changed.insert(run.clone(), revision);
            } else {
                refused.extend(too_short(&self.spec, run, states));
                if with(Effect::Length).is_some() {
                    changed.insert(run.clone(), revision);
                }
            }
        }
        if let [first, rest @ ..] = &refused[..] {
            let more = match rest.len() {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            let name = &stored.experiment.name;
            return Err(Mismatch(format!(
                "experiment {name} cannot be changed so: {first}{more}; --fork {name} --name NEW begins \
                 another experiment with the same data and weights"
            )));
        }
        let mut told: Vec<String> = self.changes.iter().map(Change::to_string).collect();
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

fn epochs(number: usize) -> String {
    match number {
        1 => "1 epoch".to_owned(),
        number => format!("{number} epochs"),
    }
}

/// Why a run has been trained for longer than is asked for, if it has.
fn too_short(spec: &ExperimentSpec, run: &RunName, states: &[EarlyStopping]) -> Option<String> {
    let (asked, patience) = (spec.epochs, spec.patience);
    let (_, earlier) = states.split_last()?;
    if states.len() > asked as usize {
        let trained = epochs(states.len());
        return Some(format!(
            "epochs = {asked}, but run {run} has been trained for {trained}"
        ));
    }
    let stopped = earlier
        .iter()
        .position(|state| state.should_stop(patience))?;
    Some(format!(
        "patience = {patience}, but run {run} went on after {} without improvement",
        epochs(stopped + 1 - earlier[stopped].best_epoch.0 as usize)
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
    /// Early stopping after each of its epochs.
    states: Vec<EarlyStopping>,
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
                    states: epochs.iter().map(|epoch| epoch.early_stopping).collect(),
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
