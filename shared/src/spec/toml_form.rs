//! An experiment as people write it. What is left out comes from the `fer2013` preset.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::Omitted;
use super::keys::{AUGMENTATION, BACKBONE, EXPERIMENT, RUN, run_of_preset};
use super::toml_reader::{Section, Source, SpecError, expected};
use super::validate::MAX_RUNS;
use super::{ExperimentSpec, Preset, RunSpec};

/// Reads an experiment and validates it. `file` is the name of the text in messages.
///
/// # Errors
/// The first problem with its key and line: an unknown key, a wrong type, a value out of its range.
pub fn from_toml(text: &str, file: &str) -> Result<ExperimentSpec, SpecError> {
    let source = Source { file, text };
    let document = DeTable::parse(text).map_err(|error| source.syntax(&error))?;
    let spec = experiment(&source, document.get_ref(), document.span())?;
    spec.validate().map_err(|error| SpecError::Invalid {
        file: file.to_owned(),
        error,
    })?;
    Ok(spec)
}

/// A table of the text and where it stands.
type PlacedTable<'a> = (&'a DeTable<'a>, Range<usize>);

fn experiment<'a>(
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    span: Range<usize>,
) -> Result<ExperimentSpec, SpecError> {
    let mut spec = Preset::Fer2013.spec();
    let mut known = EXPERIMENT.names();
    known.extend([AUGMENTATION.name, RUN.name]);
    let place = "of the experiment".to_owned();
    let top = Section::new(source, table, span, place, &known)?;
    for key in EXPERIMENT.keys {
        top.read(key, &mut spec)?;
    }
    if let Some((table, span)) = top.get(AUGMENTATION.name, augmentation_table)? {
        let place = "in [augmentation]".to_owned();
        let section = Section::new(source, table, span, place, &AUGMENTATION.names())?;
        for key in AUGMENTATION.keys {
            section.read(key, &mut spec.augmentation)?;
        }
    }
    spec.runs = match top.get(RUN.name, run_tables)? {
        Some(tables) if tables.len() > MAX_RUNS => {
            return Err(SpecError::TooManyRuns {
                file: source.file.to_owned(),
                count: tables.len(),
            });
        }
        Some(tables) => {
            let numbered = tables.into_iter().enumerate();
            numbered
                .map(|(i, table)| run(source, table, i, &spec))
                .collect::<Result<_, _>>()?
        }
        None => {
            let mut runs = spec.runs.clone();
            for run in &mut runs {
                for key in RUN.keys {
                    set_omitted(&key.omitted, &spec, run);
                }
            }
            runs
        }
    };
    Ok(spec)
}

fn augmentation_table<'a>(value: &'a Spanned<DeValue<'a>>) -> Result<PlacedTable<'a>, String> {
    match value.get_ref() {
        DeValue::Table(table) => Ok((table, value.span())),
        _ => Err(expected("a table: [augmentation]", value)),
    }
}

fn run_tables<'a>(value: &'a Spanned<DeValue<'a>>) -> Result<Vec<PlacedTable<'a>>, String> {
    let error = || expected("tables: [[run]], with two brackets on each side", value);
    let DeValue::Array(items) = value.get_ref() else {
        return Err(error());
    };
    let table = |item: &'a Spanned<DeValue<'a>>| match item.get_ref() {
        DeValue::Table(table) => Ok((table, item.span())),
        _ => Err(error()),
    };
    items.iter().map(table).collect()
}

/// Reads a run. The keys of `experiment` have been read; its runs are still the preset's.
fn run<'a>(
    source: &'a Source<'a>,
    (table, span): PlacedTable<'a>,
    index: usize,
    experiment: &ExperimentSpec,
) -> Result<RunSpec, SpecError> {
    let label = ["name", "backbone"]
        .iter()
        .find_map(|&key| table.get(key)?.get_ref().as_str());
    let place = match label {
        Some(label) => format!("in [[run]] \"{label}\""),
        None => format!("in [[run]] number {}", index + 1),
    };
    let section = Section::new(source, table, span, place, &RUN.names())?;
    let mut run = experiment.runs[0].clone();
    if !section.read(&BACKBONE, &mut run)? {
        return Err(section.missing(BACKBONE.name));
    }
    let mut run = RunSpec {
        backbone: run.backbone,
        ..run_of_preset(experiment, run.backbone).clone()
    };
    for key in RUN.keys {
        if !section.read(key, &mut run)? {
            set_omitted(&key.omitted, experiment, &mut run);
        }
    }
    Ok(run)
}

fn set_omitted(omitted: &Omitted<RunSpec>, experiment: &ExperimentSpec, run: &mut RunSpec) {
    match omitted {
        Omitted::Preset => {}
        Omitted::Derived(set) | Omitted::Inherited(set) => set(experiment, run),
    }
}

#[cfg(test)]
mod tests;
