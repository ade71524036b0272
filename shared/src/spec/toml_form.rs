//! An experiment as people write it. What is left out comes from the `fer2013` preset.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::toml_reader::{Section, Source, SpecError, expected};
use super::{Augmentation, Backbone, ExperimentSpec, Preset, RunSpec, Weights, derived_seed};

const EXPERIMENT_KEYS: [&str; 10] = [
    "name",
    "seed",
    "image_size",
    "batch_size",
    "epochs",
    "patience",
    "batch_norm_momentum",
    "precision",
    "augmentation",
    "run",
];
const AUGMENTATION_KEYS: [&str; 4] = ["height_shift", "width_shift", "zoom", "horizontal_flip"];
const RUN_KEYS: [&str; 10] = [
    "name",
    "backbone",
    "learning_rate",
    "decay",
    "dropout",
    "width",
    "image_size",
    "seed",
    "weights",
    "ensemble_weight",
];

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

type Table<'a> = (&'a DeTable<'a>, Range<usize>);

fn experiment<'a>(
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    span: Range<usize>,
) -> Result<ExperimentSpec, SpecError> {
    let preset = Preset::Fer2013.spec();
    let top = Section::new(
        source,
        table,
        span,
        "of the experiment".to_owned(),
        &EXPERIMENT_KEYS,
    )?;

    let seed = top.seed(preset.seed)?;
    let image_size = top.u32("image_size", preset.runs[0].image_size)?;
    // What a run of this backbone gets where its table is silent.
    let defaults = |backbone: Backbone| {
        let of_preset = preset.runs.iter().find(|run| run.backbone == backbone);
        let of_preset = of_preset.or(preset.runs.last()).expect("a preset has runs");
        RunSpec {
            backbone,
            image_size,
            ..of_preset.clone()
        }
    };
    let runs = match top.get("run", run_tables)? {
        Some(tables) => {
            let numbered = tables.into_iter().enumerate();
            numbered
                .map(|(i, table)| run(source, table, i, seed, defaults))
                .collect::<Result<_, _>>()?
        }
        None => {
            let of_preset = preset.runs.iter().map(|run| RunSpec {
                seed: derived_seed(seed, &run.name),
                ..defaults(run.backbone)
            });
            of_preset.collect()
        }
    };
    let augmentation = match top.get("augmentation", |value| match value.get_ref() {
        DeValue::Table(table) => Ok((table, value.span())),
        _ => Err(expected("a table: [augmentation]", value)),
    })? {
        Some(table) => augmentation(source, table, preset.augmentation)?,
        None => preset.augmentation,
    };
    let name = top.text("name", |text| text.parse().map_err(to_string))?;
    Ok(ExperimentSpec {
        name: name.unwrap_or(preset.name),
        seed,
        batch_size: top.u32("batch_size", preset.batch_size)?,
        epochs: top.u32("epochs", preset.epochs)?,
        patience: top.u32("patience", preset.patience)?,
        batch_norm_momentum: top.float("batch_norm_momentum", preset.batch_norm_momentum)?,
        precision: top
            .text("precision", |text| text.parse().map_err(to_string))?
            .unwrap_or(preset.precision),
        augmentation,
        runs,
    })
}

fn run_tables<'a>(value: &'a toml::Spanned<DeValue<'a>>) -> Result<Vec<Table<'a>>, String> {
    let error = || expected("tables: [[run]], with two brackets on each side", value);
    let DeValue::Array(items) = value.get_ref() else {
        return Err(error());
    };
    let table = |item: &'a toml::Spanned<DeValue<'a>>| match item.get_ref() {
        DeValue::Table(table) => Ok((table, item.span())),
        _ => Err(error()),
    };
    items.iter().map(table).collect()
}

fn augmentation<'a>(
    source: &'a Source<'a>,
    (table, span): Table<'a>,
    preset: Augmentation,
) -> Result<Augmentation, SpecError> {
    let section = Section::new(
        source,
        table,
        span,
        "in [augmentation]".to_owned(),
        &AUGMENTATION_KEYS,
    )?;
    Ok(Augmentation {
        height_shift: section.float("height_shift", preset.height_shift)?,
        width_shift: section.float("width_shift", preset.width_shift)?,
        zoom: section.float("zoom", preset.zoom)?,
        horizontal_flip: section.bool("horizontal_flip", preset.horizontal_flip)?,
    })
}

fn run<'a>(
    source: &'a Source<'a>,
    (table, span): Table<'a>,
    index: usize,
    experiment_seed: u64,
    defaults: impl Fn(Backbone) -> RunSpec,
) -> Result<RunSpec, SpecError> {
    let label = ["name", "backbone"]
        .iter()
        .find_map(|&key| table.get(key)?.get_ref().as_str());
    let place = match label {
        Some(label) => format!("in [[run]] \"{label}\""),
        None => format!("in [[run]] number {}", index + 1),
    };
    let section = Section::new(source, table, span, place, &RUN_KEYS)?;
    let backbone = section
        .text("backbone", |text| {
            text.parse::<Backbone>().map_err(to_string)
        })?
        .ok_or_else(|| section.missing("backbone"))?;
    let default = defaults(backbone);
    let name = match section.text("name", |text| text.parse().map_err(to_string))? {
        Some(name) => name,
        None => backbone
            .as_str()
            .parse()
            .expect("backbones have valid names"),
    };
    let width = section.float("width", default.width)?;
    let weights = match section.text("weights", |text| text.parse().map_err(to_string))? {
        Some(weights) => weights,
        // Published weights are those of the full network.
        None if width != default.width => Weights::None,
        None => default.weights,
    };
    Ok(RunSpec {
        seed: section.seed(derived_seed(experiment_seed, &name))?,
        name,
        backbone,
        learning_rate: section.float("learning_rate", default.learning_rate)?,
        decay: section.float("decay", default.decay)?,
        dropout: section.float("dropout", default.dropout)?,
        width,
        image_size: section.u32("image_size", default.image_size)?,
        weights,
        ensemble_weight: section.float("ensemble_weight", default.ensemble_weight)?,
    })
}

fn to_string(error: impl std::error::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests;
