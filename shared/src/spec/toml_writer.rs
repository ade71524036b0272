//! An experiment as commented TOML, ready to be edited.

use std::fmt::{self, Write as _};

use super::ExperimentSpec;
use super::key::{Key, Omitted};
use super::keys::{AUGMENTATION, EXPERIMENT, RUN};

/// The whole experiment as TOML, every key explained. [`super::from_toml`] gives the same experiment back.
///
/// A run's `image_size`, `seed` and `freeze` are comments where they are the experiment's, so that editing
/// the experiment's changes the runs'.
#[must_use]
pub fn to_toml(spec: &ExperimentSpec) -> String {
    let mut text = String::new();
    write(&mut text, spec).expect("a String takes all");
    text
}

fn write(out: &mut String, spec: &ExperimentSpec) -> fmt::Result {
    writeln!(out, "# {}\n", EXPERIMENT.help)?;
    for key in EXPERIMENT.keys {
        write_key(out, key, spec, "")?;
    }
    writeln!(out, "\n# {}\n[{}]", AUGMENTATION.help, AUGMENTATION.name)?;
    for key in AUGMENTATION.keys {
        write_key(out, key, &spec.augmentation, "")?;
    }
    for run in &spec.runs {
        writeln!(out, "\n# {}\n[[{}]]", RUN.help, RUN.name)?;
        for key in RUN.keys {
            let is_inherited = match key.omitted {
                Omitted::Inherited(inherit) => {
                    let mut inherited = run.clone();
                    inherit(spec, &mut inherited);
                    inherited == *run
                }
                Omitted::Preset | Omitted::Derived(_) => false,
            };
            write_key(out, key, run, if is_inherited { "# " } else { "" })?;
        }
    }
    Ok(())
}

fn write_key<T>(out: &mut String, key: &Key<T>, all: &T, comment: &str) -> fmt::Result {
    for line in key.help.lines() {
        writeln!(out, "# {line}")?;
    }
    writeln!(out, "{comment}{} = {}", key.name, key.to_toml(all))
}
