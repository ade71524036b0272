//! The command-line arguments that say what is trained: those of the programs that take in an experiment.
//!
//! - `data`: those of the data

mod data;

use std::path::{Path, PathBuf};

use anyhow::Context;
use quartet_shared::label::{self, MAX_REASON};
use quartet_shared::spec::{self, ExperimentSpec, Preset};

use crate::data::Source;

pub use data::DataArgs;

/// The experiment that a preset's name or a file says; the preset for these data unless one is named.
///
/// # Errors
/// It is neither a preset nor a file that can be read, or what the file says cannot be used.
pub fn spec(experiment: Option<&str>, source: &Source) -> anyhow::Result<ExperimentSpec> {
    let Some(experiment) = experiment else {
        let preset = match source {
            Source::Synthetic => Preset::Demo,
            Source::Path(_) => Preset::Fer2013,
        };
        return Ok(preset.spec());
    };
    if let Ok(preset) = experiment.parse::<Preset>() {
        return Ok(preset.spec());
    }
    let text = std::fs::read_to_string(experiment).with_context(|| {
        format!(
            "cannot read --experiment {experiment}: \
             it is neither a preset (fer2013, demo) nor a readable TOML file"
        )
    })?;
    Ok(spec::from_toml(&text, experiment)?)
}

/// What the paths in an experiment are relative to: the folder of its file. Presets name no path.
#[must_use]
pub fn folder(experiment: Option<&str>) -> PathBuf {
    match experiment {
        Some(file) if file.parse::<Preset>().is_err() => {
            Path::new(file).parent().unwrap_or(Path::new("")).to_owned()
        }
        _ => PathBuf::new(),
    }
}

/// How an experiment is found again.
#[derive(Clone, Debug, clap::Args)]
pub struct NoteArgs {
    /// What a new experiment is for, for those who look at it later: `status list`, `show` and the report.
    #[arg(long, value_name = "TEXT", value_parser = note)]
    pub note: Option<String>,
    /// A word to find a new experiment by; it can be given several times.
    #[arg(long = "tag", value_name = "TAG", value_parser = tag)]
    pub tags: Vec<String>,
}

/// A note: a line of at most [`MAX_REASON`] characters.
///
/// # Errors
/// What to do instead.
pub fn note(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say something, or leave it out".to_owned()),
        text if text.contains(char::is_control) => Err("use one line of text".to_owned()),
        text if text.chars().count() > MAX_REASON => {
            Err(format!("use at most {MAX_REASON} characters"))
        }
        text => Ok(text.to_owned()),
    }
}

/// A tag: a label without commas, which separate tags where several are shown.
///
/// # Errors
/// What to do instead.
pub fn tag(text: &str) -> Result<String, String> {
    label::check(text).map_err(|error| error.to_string())?;
    match text.contains(',') {
        true => Err("give --tag several times instead of a list with commas".to_owned()),
        false => Ok(text.to_owned()),
    }
}
