//! What makes a spec valid, whether it came from TOML, from JSON or from a preset.

use std::collections::BTreeSet;
use std::fmt;

use super::ExperimentSpec;
use super::key::Table;
use super::keys::{AUGMENTATION, EXPERIMENT, RUN};
use crate::ids::RunName;

/// The first thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidSpec {
    /// The run that the key belongs to, if it belongs to one.
    pub run: Option<RunName>,
    /// The key as TOML has it, such as `epochs` or `augmentation.zoom`.
    pub key: String,
    /// What is wrong, such as `must be at least 1, not 0`.
    pub reason: String,
}

impl fmt::Display for InvalidSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.run {
            Some(run) => write!(f, "{} of run \"{run}\" {}", self.key, self.reason),
            None => write!(f, "{} {}", self.key, self.reason),
        }
    }
}

/// Most runs that an experiment may have.
pub(super) const MAX_RUNS: usize = 64;

impl ExperimentSpec {
    /// Checks every range and every name.
    ///
    /// # Errors
    /// The first problem found, with its key and run.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        check_keys(&EXPERIMENT, self, None, "")?;
        check_keys(&AUGMENTATION, &self.augmentation, None, "augmentation.")?;
        let count = self.runs.len();
        let few = (count == 0).then(|| "must be there at least once".to_owned());
        let many = (count > MAX_RUNS)
            .then(|| format!("has {count} tables; an experiment takes at most {MAX_RUNS}"));
        check(None, RUN.name, few.or(many))?;
        let mut names = BTreeSet::new();
        for run in &self.runs {
            check_keys(&RUN, run, Some(&run.name), "")?;
            // Not every file system tells upper from lower case.
            let twice = !names.insert(run.name.as_str().to_ascii_lowercase());
            let reason = "is there twice: give the runs of one backbone names of their own";
            check(Some(&run.name), "name", twice.then(|| reason.to_owned()))?;
        }
        let sum: f64 = self.runs.iter().map(|run| run.ensemble_weight).sum();
        let valid = sum > 0.0 && sum.is_finite();
        let reason = "must be greater than 0 in at least one run, and finite in sum";
        check(None, "ensemble_weight", (!valid).then(|| reason.to_owned()))
    }
}

fn check_keys<T>(
    table: &Table<T>,
    all: &T,
    run: Option<&RunName>,
    prefix: &str,
) -> Result<(), InvalidSpec> {
    table
        .keys
        .iter()
        .try_for_each(|key| check(run, &format!("{prefix}{}", key.name), key.problem(all)))
}

fn check(run: Option<&RunName>, key: &str, problem: Option<String>) -> Result<(), InvalidSpec> {
    match problem {
        Some(reason) => Err(InvalidSpec {
            run: run.cloned(),
            key: key.to_owned(),
            reason,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Preset;

    fn broken(change: impl FnOnce(&mut ExperimentSpec)) -> String {
        let mut spec = Preset::Fer2013.spec();
        change(&mut spec);
        spec.validate()
            .expect_err("the spec is not valid")
            .to_string()
    }

    #[test]
    fn a_message_names_key_run_and_value() {
        let message = broken(|spec| spec.runs[1].learning_rate = -1.0);
        assert_eq!(
            message,
            "learning_rate of run \"vgg16\" must be greater than 0 and finite, not -1"
        );
        let message = broken(|spec| spec.epochs = 0);
        assert_eq!(message, "epochs must be at least 1, not 0");
        let message = broken(|spec| spec.runs[0].image_size = 48);
        assert_eq!(
            message,
            "image_size of run \"inception_resnet_v2\" must be at least 75 for inception_resnet_v2, not 48"
        );
    }

    #[test]
    fn every_range_has_its_end() {
        type Change = fn(&mut ExperimentSpec);
        let changes: [(&str, Change); 23] = [
            ("name", |s| s.name = "datasets".parse().unwrap()),
            ("name", |s| s.name = "weights".parse().unwrap()),
            ("weights", |s| s.runs[0].width = 0.5),
            ("seed", |s| s.seed = 1 << 63),
            ("batch_size", |s| s.batch_size = 1),
            ("epochs", |s| s.epochs = 10_000),
            ("patience", |s| s.patience = 0),
            ("batch_norm_momentum", |s| s.batch_norm_momentum = 1.0),
            ("augmentation.height_shift", |s| {
                s.augmentation.height_shift = 1.0
            }),
            ("augmentation.width_shift", |s| {
                s.augmentation.width_shift = -0.1
            }),
            ("augmentation.zoom", |s| s.augmentation.zoom = f64::NAN),
            ("run", |s| s.runs.clear()),
            ("run", |s| s.runs = vec![s.runs[0].clone(); 65]),
            ("name", |s| s.runs[0].name = "evaluation".parse().unwrap()),
            ("name", |s| s.runs[0].name = "VGG16".parse().unwrap()),
            ("learning_rate", |s| s.runs[0].learning_rate = f64::INFINITY),
            ("decay", |s| s.runs[0].decay = -1e-9),
            ("dropout", |s| s.runs[0].dropout = 1.0),
            ("width", |s| s.runs[0].width = 4.5),
            ("image_size", |s| s.runs[0].image_size = 1025),
            ("freeze", |s| s.runs[0].freeze = "block3".parse().unwrap()),
            ("ensemble_weight", |s| s.runs[0].ensemble_weight = f64::NAN),
            ("ensemble_weight", |s| {
                s.runs.iter_mut().for_each(|run| run.ensemble_weight = 0.0)
            }),
        ];
        for (key, change) in changes {
            let message = broken(change);
            assert!(message.starts_with(&format!("{key} ")), "{key}: {message}");
        }
    }

    #[test]
    fn a_run_may_be_left_out_of_the_ensemble() {
        let mut spec = Preset::Fer2013.spec();
        spec.runs[0].ensemble_weight = 0.0;
        spec.validate().unwrap();
    }
}
