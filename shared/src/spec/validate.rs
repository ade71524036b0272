//! What makes a spec valid, whether it came from TOML, from JSON or from a preset.

use std::collections::BTreeSet;
use std::fmt;

use super::{ExperimentSpec, RunSpec, Weights};
use crate::ids::{ExperimentName, RunName};

/// The first thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidSpec {
    /// The run that the key belongs to, if it belongs to one.
    pub run: Option<RunName>,
    /// The key as TOML has it, such as `epochs` or `augmentation.zoom`.
    pub key: &'static str,
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
const MAX_RUNS: usize = 64;
/// Largest input of a network in pixels.
const MAX_IMAGE_SIZE: u32 = 1024;
/// The store writes epochs with four digits, so that a listing is in order.
const MAX_EPOCHS: u32 = 9999;

impl ExperimentSpec {
    /// Checks every range and every name.
    ///
    /// # Errors
    /// The first problem found, with its key and run.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        let check = |key, reason: Option<String>| result(None, key, reason);
        let taken = ExperimentName::RESERVED.contains(&self.name.as_str());
        check(
            "name",
            taken.then(|| {
                format!(
                    "must not be \"{}\": the store has a folder of that name",
                    self.name
                )
            }),
        )?;
        check("seed", seed(self.seed))?;
        // Batch normalisation has no variance over one image.
        check("batch_size", at_least(self.batch_size, 2))?;
        check(
            "epochs",
            at_least(self.epochs, 1).or_else(|| at_most(self.epochs, MAX_EPOCHS)),
        )?;
        check("patience", at_least(self.patience, 1))?;
        check("batch_norm_momentum", fraction(self.batch_norm_momentum))?;
        let augmentation = &self.augmentation;
        check(
            "augmentation.height_shift",
            fraction(augmentation.height_shift),
        )?;
        check(
            "augmentation.width_shift",
            fraction(augmentation.width_shift),
        )?;
        check("augmentation.zoom", fraction(augmentation.zoom))?;

        let count = self.runs.len();
        let few = (count == 0).then(|| "must be there at least once".to_owned());
        let many = (count > MAX_RUNS)
            .then(|| format!("must be there at most {MAX_RUNS} times, not {count}"));
        check("run", few.or(many))?;
        let mut names = BTreeSet::new();
        for run in &self.runs {
            run.validate()?;
            // Not every file system tells upper from lower case.
            let twice = !names.insert(run.name.as_str().to_ascii_lowercase());
            let reason = "is there twice: give the runs of one backbone names of their own";
            result(Some(run), "name", twice.then(|| reason.to_owned()))?;
        }
        let sum: f64 = self.runs.iter().map(|run| run.ensemble_weight).sum();
        let reason = "must be greater than 0 in at least one run, and finite in sum";
        check(
            "ensemble_weight",
            (!(sum > 0.0 && sum.is_finite())).then(|| reason.to_owned()),
        )
    }
}

impl RunSpec {
    fn validate(&self) -> Result<(), InvalidSpec> {
        let check = |key, reason: Option<String>| result(Some(self), key, reason);
        let reserved = self.name.as_str().eq_ignore_ascii_case("evaluation");
        check(
            "name",
            reserved.then(|| "is reserved for the evaluation of the ensemble".to_owned()),
        )?;
        check("learning_rate", positive(self.learning_rate))?;
        check("decay", not_negative(self.decay))?;
        check("dropout", fraction(self.dropout))?;
        let width = self.width > 0.0 && self.width <= 4.0;
        check(
            "width",
            must(width, "greater than 0 and at most 4", self.width),
        )?;
        let published = matches!(self.weights, Weights::Imagenet | Weights::Hub(_));
        let narrow = (published && self.width != 1.0).then(|| {
            format!(
                "must be \"none\" or a file for width {}: {} are those of the full network",
                self.width, self.weights
            )
        });
        check("weights", narrow)?;
        let least = self.backbone.minimum_image_size();
        let small = (self.image_size < least).then(|| {
            format!(
                "must be at least {least} for {}, not {}",
                self.backbone, self.image_size
            )
        });
        check(
            "image_size",
            small.or_else(|| at_most(self.image_size, MAX_IMAGE_SIZE)),
        )?;
        check("seed", seed(self.seed))?;
        check("ensemble_weight", not_negative(self.ensemble_weight))
    }
}

fn result(
    run: Option<&RunSpec>,
    key: &'static str,
    reason: Option<String>,
) -> Result<(), InvalidSpec> {
    match reason {
        Some(reason) => Err(InvalidSpec {
            run: run.map(|run| run.name.clone()),
            key,
            reason,
        }),
        None => Ok(()),
    }
}

// Each rule gives the reason why a value breaks it. They are written so that NaN breaks them all.

fn must(holds: bool, rule: &str, value: impl fmt::Display) -> Option<String> {
    (!holds).then(|| format!("must be {rule}, not {value}"))
}

fn at_least(value: u32, least: u32) -> Option<String> {
    must(value >= least, &format!("at least {least}"), value)
}

fn at_most(value: u32, most: u32) -> Option<String> {
    must(value <= most, &format!("at most {most}"), value)
}

fn fraction(value: f64) -> Option<String> {
    must(
        (0.0..1.0).contains(&value),
        "at least 0 and less than 1",
        value,
    )
}

fn positive(value: f64) -> Option<String> {
    must(
        value > 0.0 && value.is_finite(),
        "greater than 0 and finite",
        value,
    )
}

fn not_negative(value: f64) -> Option<String> {
    must(
        value >= 0.0 && value.is_finite(),
        "at least 0 and finite",
        value,
    )
}

fn seed(value: u64) -> Option<String> {
    must(i64::try_from(value).is_ok(), "less than 2^63", value)
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
        let changes: [(&str, Change); 22] = [
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
