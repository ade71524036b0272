//! Single values that take the place of those of a file or a preset: `vgg16.learning_rate=1e-4`.

use toml::de::DeTable;

use super::key::Table;
use super::keys::{AUGMENTATION, EXPERIMENT, RUN};
use super::toml_reader::{Section, Source, SpecError};
use super::{ExperimentSpec, derived_seed};

/// What decides which network a run is, and what it is called: with another value it would be another run.
const FIXED: [&str; 2] = ["name", "backbone"];

impl ExperimentSpec {
    /// Sets keys to values, in order, and validates the result. A setting is `KEY=VALUE`, `RUN.KEY=VALUE` or
    /// `augmentation.KEY=VALUE`, with keys and values as in TOML; the quotes of a text may be left out. What
    /// is derived from the experiment's seed is derived anew. `option` names the settings in messages.
    ///
    /// # Errors
    /// The first setting that cannot be used, or what is not valid then.
    pub fn set(&mut self, settings: &[String], option: &str) -> Result<(), SpecError> {
        for setting in settings {
            self.set_one(setting, &format!("{option} {setting}"))?;
        }
        self.validate().map_err(|error| SpecError::Invalid {
            file: format!("{option} {}", settings.join(&format!(" {option} "))),
            error,
        })
    }

    fn set_one(&mut self, setting: &str, origin: &str) -> Result<(), SpecError> {
        let wrong = |reason: String| SpecError::Setting {
            setting: origin.to_owned(),
            reason,
        };
        let Some((path, value)) = setting.split_once('=') else {
            return Err(wrong("use KEY=VALUE or RUN.KEY=VALUE".to_owned()));
        };
        let (path, value) = (path.trim(), value.trim());
        let (place, key) = match path.rsplit_once('.') {
            Some((place, key)) => (Some(place), key),
            None => (None, path),
        };
        if FIXED.contains(&key) {
            return Err(wrong(match place {
                None => "the name is given with --name".to_owned(),
                Some(_) => {
                    format!("a run with another {key} is another run; give a file to --experiment")
                }
            }));
        }
        let as_it_is = format!("{key} = {value}");
        let quoted = || format!("{key} = {}", toml::Value::from(value));
        let text = match DeTable::parse(&as_it_is) {
            Ok(table) if table.get_ref().len() == 1 => as_it_is,
            _ => quoted(),
        };
        let source = Source {
            file: origin,
            text: &text,
        };
        let table = DeTable::parse(&text).map_err(|_| wrong(format!("{key:?} is no key")))?;
        let span = table.span();
        let table = table.get_ref();
        match place {
            None => {
                let was_derived: Vec<bool> = self
                    .runs
                    .iter()
                    .map(|run| run.seed == derived_seed(self.seed, &run.name))
                    .collect();
                let known = names(&EXPERIMENT);
                let place = "of the experiment".to_owned();
                let section = Section::new(&source, table, span, place, &known)?;
                for key in EXPERIMENT.keys {
                    section.read(key, self)?;
                }
                for (run, _) in self
                    .runs
                    .iter_mut()
                    .zip(was_derived)
                    .filter(|(_, was)| *was)
                {
                    run.seed = derived_seed(self.seed, &run.name);
                }
            }
            Some(place) if place == AUGMENTATION.name => {
                let known = names(&AUGMENTATION);
                let place = "of augmentation".to_owned();
                let section = Section::new(&source, table, span, place, &known)?;
                for key in AUGMENTATION.keys {
                    section.read(key, &mut self.augmentation)?;
                }
            }
            Some(name) => {
                let Some(run) = self.runs.iter_mut().find(|run| run.name.as_str() == name) else {
                    let runs: Vec<_> = self.runs.iter().map(|run| run.name.as_str()).collect();
                    let runs = runs.join(", ");
                    return Err(wrong(format!("there is no run {name:?}; there are {runs}")));
                };
                let place = format!("of run \"{name}\"");
                let section = Section::new(&source, table, span, place, &names(&RUN))?;
                for key in RUN.keys {
                    section.read(key, run)?;
                }
            }
        }
        Ok(())
    }
}

/// The keys that can be set.
fn names<T>(table: &Table<T>) -> Vec<&'static str> {
    let mut names = table.names();
    names.retain(|name| !FIXED.contains(name));
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Ensemble, Preset, Weights};

    fn set(settings: &[&str]) -> Result<ExperimentSpec, String> {
        let mut spec = Preset::Fer2013.spec();
        let settings: Vec<String> = settings.iter().map(|&text| text.to_owned()).collect();
        let set = spec.set(&settings, "--set");
        set.map(|()| spec).map_err(|error| error.to_string())
    }

    #[test]
    fn a_value_takes_the_place_of_another() {
        let spec = set(&[
            "epochs=2",
            "vgg16.learning_rate = 1e-4",
            "augmentation.horizontal_flip=false",
            "ensemble=all",
            "precision=\"f32\"",
            "vgg16.weights=none",
            "vgg16.width=0.5",
        ]);
        let spec = spec.unwrap();
        let mut expected = Preset::Fer2013.spec();
        expected.epochs = 2;
        expected.augmentation.horizontal_flip = false;
        expected.ensemble = Ensemble::All;
        expected.precision = crate::spec::Precision::F32;
        let vgg16 = expected
            .runs
            .iter_mut()
            .find(|run| run.name.as_str() == "vgg16");
        let vgg16 = vgg16.unwrap();
        (vgg16.learning_rate, vgg16.width, vgg16.weights) = (1e-4, 0.5, Weights::None);
        assert_eq!(spec, expected);
        // The last one counts.
        assert_eq!(set(&["epochs=3", "epochs=4"]).unwrap().epochs, 4);
    }

    #[test]
    fn what_runs_inherit_is_inherited() {
        let spec = set(&["vgg16.seed=5", "seed=2", "image_size=96"]).unwrap();
        for run in &spec.runs {
            let seed = match run.name.as_str() {
                "vgg16" => 5,
                _ => derived_seed(2, &run.name),
            };
            assert_eq!((run.seed, run.image_size), (seed, 96), "{}", run.name);
        }
    }

    #[test]
    fn what_cannot_be_set_is_named() {
        for (setting, message) in [
            ("epochs", "--set epochs: use KEY=VALUE or RUN.KEY=VALUE"),
            ("=2", "--set =2: \"\" is no key"),
            ("a b=2", "--set a b=2: \"a b\" is no key"),
            (
                "epoch=2",
                "--set epoch=2: unknown key \"epoch\" of the experiment (line 1), did you mean \"epochs\"?",
            ),
            (
                "epochs=many",
                "--set epochs=many: epochs of the experiment must be a whole number, not the text \"many\" (line 1)",
            ),
            (
                "epochs=0",
                "--set epochs=0: epochs must be at least 1, not 0",
            ),
            (
                "vgg.decay=0",
                "--set vgg.decay=0: there is no run \"vgg\"; there are inception_resnet_v2, vgg16, resnet50, inception_v3",
            ),
            (
                "vgg16.backbone=resnet50",
                "--set vgg16.backbone=resnet50: a run with another backbone is another run; give a file to --experiment",
            ),
            (
                "vgg16.width=0.5",
                "--set vgg16.width=0.5: weights of run \"vgg16\" must be \"none\" or a file for width 0.5: imagenet are those of the full network",
            ),
            (
                "epochs=2\nseed=3",
                "--set epochs=2\nseed=3: epochs of the experiment must be a whole number, not the text \"2\\nseed=3\" (line 1)",
            ),
        ] {
            assert_eq!(set(&[setting]).unwrap_err(), message);
        }
    }
}
