//! In what two forms of an experiment differ.

use std::fmt;

use super::key::Table;
use super::keys::{AUGMENTATION, EXPERIMENT, RUN};
use super::{ExperimentSpec, RunSpec};
use crate::ids::RunName;

/// A difference between two forms of an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another value of a key.
    Value {
        /// Where.
        place: Place,
        /// The key, as TOML has it.
        key: &'static str,
        /// Its value before, as TOML has it.
        old: String,
        /// Its value now.
        new: String,
    },
    /// A run that was not there.
    Added(RunName),
    /// A run that is no longer there.
    Removed(RunName),
    /// The runs are in another order.
    Reordered,
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the top of the file.
    Experiment,
    /// In the table of augmentation.
    Augmentation,
    /// In a run's table.
    Run(RunName),
}

/// What a changed value has an effect on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// How runs are trained: their checkpoints would be others.
    Training,
    /// For how long runs are trained.
    Length,
    /// What is evaluated.
    Evaluation,
    /// Nothing by itself: what is derived from it is changed, too.
    Nothing,
}

impl Change {
    /// The effect of a changed value; `None` where runs come, go or change places.
    #[must_use]
    pub fn effect(&self) -> Option<Effect> {
        let Self::Value { place, key, .. } = self else {
            return None;
        };
        Some(match (place, *key) {
            (Place::Experiment, "seed") => Effect::Nothing,
            (Place::Experiment, "epochs" | "patience") => Effect::Length,
            (Place::Experiment, "ensemble") | (Place::Run(_), "ensemble_weight") => {
                Effect::Evaluation
            }
            _ => Effect::Training,
        })
    }

    /// Whether it has an effect on the training of this run.
    #[must_use]
    pub fn is_of(&self, run: &RunName) -> bool {
        match self {
            Self::Value {
                place: Place::Run(of),
                ..
            }
            | Self::Added(of)
            | Self::Removed(of) => of == run,
            Self::Value { .. } => true,
            Self::Reordered => false,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value {
                place,
                key,
                old,
                new,
            } => match place {
                Place::Experiment => write!(f, "{key} = {new} (was {old})"),
                Place::Augmentation => {
                    write!(f, "{}.{key} = {new} (was {old})", AUGMENTATION.name)
                }
                Place::Run(run) => write!(f, "{run}.{key} = {new} (was {old})"),
            },
            Self::Added(run) => write!(f, "run {run} added"),
            Self::Removed(run) => write!(f, "run {run} removed"),
            Self::Reordered => f.write_str("the runs in another order"),
        }
    }
}

/// All differences, in the order of the written form.
#[must_use]
pub fn changes(old: &ExperimentSpec, new: &ExperimentSpec) -> Vec<Change> {
    // These are keys of the runs; the top of a file only says what they inherit.
    let inherited = ["image_size", "freeze"];
    let mut changes = values(&EXPERIMENT, &inherited, old, new, &Place::Experiment);
    let (old_augmentation, new_augmentation) = (&old.augmentation, &new.augmentation);
    changes.extend(values(
        &AUGMENTATION,
        &[],
        old_augmentation,
        new_augmentation,
        &Place::Augmentation,
    ));
    for run in &new.runs {
        match old.run(&run.name) {
            Some(before) => {
                let place = Place::Run(run.name.clone());
                changes.extend(values(&RUN, &[], before, run, &place));
            }
            None => changes.push(Change::Added(run.name.clone())),
        }
    }
    let removed = old.runs.iter().filter(|run| new.run(&run.name).is_none());
    changes.extend(removed.map(|run| Change::Removed(run.name.clone())));
    if common(old, new).ne(common(new, old)) {
        changes.push(Change::Reordered);
    }
    changes
}

/// The names of the runs that both have, in the order of the first.
fn common<'a>(
    of: &'a ExperimentSpec,
    and: &'a ExperimentSpec,
) -> impl Iterator<Item = &'a RunName> {
    let names = of.runs.iter().map(|RunSpec { name, .. }| name);
    names.filter(|name| and.run(name).is_some())
}

fn values<T>(table: &Table<T>, except: &[&str], old: &T, new: &T, place: &Place) -> Vec<Change> {
    let keys = table.keys.iter().filter(|key| !except.contains(&key.name));
    let differ = keys.filter_map(|key| {
        let (old, new) = (key.to_toml(old), key.to_toml(new));
        (old != new).then(|| Change::Value {
            place: place.clone(),
            key: key.name,
            old,
            new,
        })
    });
    differ.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Backbone, Preset};

    fn told(old: &ExperimentSpec, new: &ExperimentSpec) -> Vec<String> {
        let changes = changes(old, new);
        changes.iter().map(Change::to_string).collect()
    }

    #[test]
    fn differences_are_told_by_key() {
        let old = Preset::Fer2013.spec();
        assert_eq!(told(&old, &old), [""; 0]);
        let mut new = old.clone();
        new.set(
            &[
                "epochs=60".to_owned(),
                "augmentation.zoom=0".to_owned(),
                "vgg16.learning_rate=1e-4".to_owned(),
                "vgg16.ensemble_weight=2".to_owned(),
            ],
            "--set",
        )
        .unwrap();
        let mut added = new.runs[1].clone();
        added.name = "second".parse().unwrap();
        new.runs.push(added);
        new.runs.retain(|run| run.backbone != Backbone::InceptionV3);
        new.runs.swap(0, 1);
        let [zoom, rate, weight] = [
            old.augmentation.zoom,
            old.runs[1].learning_rate,
            old.runs[1].ensemble_weight,
        ];
        assert_eq!(
            told(&old, &new),
            [
                "epochs = 60 (was 50)".to_owned(),
                format!("augmentation.zoom = 0.0 (was {zoom:?})"),
                format!("vgg16.learning_rate = 0.0001 (was {rate:?})"),
                format!("vgg16.ensemble_weight = 2.0 (was {weight:?})"),
                "run second added".to_owned(),
                "run inception_v3 removed".to_owned(),
                "the runs in another order".to_owned(),
            ]
        );
    }

    /// A new key that is not named above changes the training, so that nothing wrong is kept.
    #[test]
    fn keys_have_effects() {
        let old = Preset::Fer2013.spec();
        let effect = |setting: &str| {
            let mut new = old.clone();
            new.set(&[setting.to_owned()], "--set").unwrap();
            let changes = changes(&old, &new);
            let effects = changes.iter().map(|change| change.effect().unwrap());
            effects.collect::<Vec<_>>()
        };
        assert_eq!(effect("patience=9"), [Effect::Length]);
        assert_eq!(effect("ensemble=all"), [Effect::Evaluation]);
        assert_eq!(effect("vgg16.ensemble_weight=3"), [Effect::Evaluation]);
        assert_eq!(effect("batch_size=7"), [Effect::Training]);
        assert_eq!(effect("vgg16.seed=7"), [Effect::Training]);
        // The seeds of the four runs are derived.
        let seeds = effect("seed=7");
        assert_eq!(seeds[0], Effect::Nothing);
        assert_eq!(seeds[1..], [Effect::Training; 4]);
        assert_eq!(effect("image_size=96"), [Effect::Training; 4]);
        assert_eq!(effect("freeze=backbone"), [Effect::Training; 4]);
        assert_eq!(effect("vgg16.freeze=block3"), [Effect::Training]);
    }
}
