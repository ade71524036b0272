//! An experiment that is simulated: the forms that it has, its store, and how it ended.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use quartet_shared::spec::{ExperimentSpec, Preset};
use quartet_store::Store;

use super::dice::Dice;
use super::executor::BROKEN;
use super::faulty_store::FaultyStore;
use super::hosts::lock;

/// How the experiment ended.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    Finished,
    /// The ensemble of what did not fail is evaluated.
    Partial(Vec<String>),
    Failed(Vec<String>),
}

/// An experiment with its store.
#[derive(Clone)]
pub(super) struct Simulated {
    /// Its last form.
    pub(super) spec: ExperimentSpec,
    /// The forms that it has before, in order.
    earlier: Vec<ExperimentSpec>,
    /// How many of them it has had.
    had: Arc<AtomicUsize>,
    /// Whether a coordinator has opened it in the form that it has now.
    is_open: Arc<AtomicBool>,
    pub(super) objects: FaultyStore,
    store: Store,
    ending: Arc<Mutex<Option<Ending>>>,
}

impl Simulated {
    /// One that grows: runs go on for longer, one comes, one goes and comes back as it was or otherwise.
    pub(super) fn growing(dice: &Arc<Dice>) -> Self {
        let mut simulated = Self::new(dice);
        let last = &mut simulated.spec;
        let mut added = last.runs[0].clone();
        added.name = "added".parse().expect("a valid name");
        added.seed = dice.number() >> 1;
        let mut first = last.clone();
        let mut second = first.clone();
        second.runs[0].ensemble_weight = 2.0;
        second.runs.pop();
        second.runs.push(added.clone());
        last.runs.push(added);
        if dice.chance(0.5) {
            // It begins anew.
            last.runs[1].seed = dice.number() >> 1;
        }
        for form in [&mut second, &mut first] {
            form.epochs = dice.within(1..u64::from(form.epochs) + 1) as u32;
            form.patience = dice.within(1..u64::from(form.patience) + 1) as u32;
        }
        second.epochs = second.epochs.max(first.epochs);
        second.patience = second.patience.max(first.patience);
        simulated.earlier = vec![first, second];
        simulated
    }

    /// One of which a run fails for good.
    pub(super) fn broken(dice: &Arc<Dice>) -> Self {
        let mut simulated = Self::new(dice);
        let mut broken = simulated.spec.runs[0].clone();
        broken.name = BROKEN.parse().expect("a valid name");
        simulated.spec.runs.push(broken);
        simulated
    }

    /// Another one in the same store.
    pub(super) fn beside(&self, dice: &Arc<Dice>, name: &str) -> Self {
        let mut other = Self::new(dice);
        other.spec.name = name.parse().expect("a valid name");
        (other.objects, other.store) = (self.objects.clone(), self.store.clone());
        other
    }

    pub(super) fn new(dice: &Arc<Dice>) -> Self {
        let mut spec = Preset::Demo.spec();
        spec.name = "simulated".parse().expect("a valid name");
        spec.epochs = dice.within(2..7) as u32;
        spec.patience = dice.within(1..6) as u32;
        spec.runs.truncate(2);
        for run in &mut spec.runs {
            // Of 63 bits, as a spec takes.
            run.seed = dice.number() >> 1;
        }
        let objects = FaultyStore::new(Arc::clone(dice));
        Self {
            spec,
            earlier: Vec::new(),
            had: Arc::default(),
            is_open: Arc::default(),
            store: Store::from_objects("simulated", Arc::new(objects.clone())),
            objects,
            ending: Arc::default(),
        }
    }

    /// The form in which it is asked for now.
    pub(super) fn form(&self) -> usize {
        self.had.load(Ordering::Relaxed)
    }

    pub(super) fn spec_of(&self, form: usize) -> &ExperimentSpec {
        self.earlier.get(form).unwrap_or(&self.spec)
    }

    /// It is asked for in the form after this one, if this is the one that it has.
    pub(super) fn grow(&self, form: usize) {
        if !self.is_last(form) && self.form() == form && self.is_open.swap(false, Ordering::Relaxed)
        {
            self.had.store(form + 1, Ordering::Relaxed);
        }
    }

    /// Whether this is the last form.
    pub(super) fn is_last(&self, form: usize) -> bool {
        form >= self.earlier.len()
    }

    /// A coordinator has opened it in this form.
    pub(super) fn opened(&self, form: usize) {
        if self.form() == form {
            self.is_open.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn end(&self, ending: Ending) {
        *lock(&self.ending) = Some(ending);
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        lock(&self.ending).clone()
    }
}
