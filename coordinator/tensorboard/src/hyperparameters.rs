//! What TensorBoard's HParams page shows: the hyperparameters and metrics of an experiment and of its runs.
//!
//! TensorBoard takes a run's folder as a *session*, and the scalars of the folders below it as its metrics.

use std::collections::BTreeSet;

use quartet_shared::clock::Timestamp;
use quartet_shared::spec::{ExperimentSpec, RunSpec};

use crate::event_file::{hparams, seconds};
use crate::proto::event::Value as Summary;
use crate::proto::hparams::{
    Data, DataType, DatasetType, Domain, Experiment, HParamInfo, Interval, Kind, ListValue,
    MetricInfo, MetricName, SessionEndInfo, SessionStartInfo, Status, Value,
};

/// The tags of the HParams plugin, from `tensorboard/plugins/hparams/metadata.py`.
const EXPERIMENT: &str = "_hparams_/experiment";
const SESSION_START: &str = "_hparams_/session_start_info";
const SESSION_END: &str = "_hparams_/session_end_info";

/// The metrics of a run: scalars of its folder `validation`.
const METRICS: [&str; 2] = ["epoch_accuracy", "epoch_loss"];

/// The hyperparameters of a run, in the order of the page's columns. All runs have the same names and kinds.
fn hyperparameters(spec: &ExperimentSpec, run: &RunSpec) -> Vec<(&'static str, Kind)> {
    let number = Kind::NumberValue;
    let text = Kind::StringValue;
    vec![
        ("backbone", text(run.backbone.to_string())),
        ("weights", text(run.weights.to_string())),
        ("freeze", text(run.freeze.to_string())),
        ("learning_rate", number(run.learning_rate)),
        ("decay", number(run.decay)),
        ("dropout", number(run.dropout)),
        ("width", number(run.width)),
        ("image_size", number(run.image_size.into())),
        // The plugin's numbers are floats of 64 bits, which cannot hold every seed.
        ("seed", text(run.seed.to_string())),
        ("batch_size", number(spec.batch_size.into())),
        ("epochs", number(spec.epochs.into())),
        ("patience", number(spec.patience.into())),
        ("precision", text(spec.precision.to_string())),
    ]
}

/// The experiment: which hyperparameters and metrics its runs have.
pub(crate) fn experiment(spec: &ExperimentSpec, created_at: Option<Timestamp>) -> Summary {
    let runs: Vec<_> = spec
        .runs
        .iter()
        .map(|run| hyperparameters(spec, run))
        .collect();
    let names = runs.first().into_iter().flatten();
    let hparam_infos = names.enumerate().map(|(column, (name, _))| {
        let values = runs.iter().map(|run| &run[column].1);
        info(name, values)
    });
    let metric_infos = METRICS.map(|tag| MetricInfo {
        name: Some(MetricName {
            group: "validation".to_owned(),
            tag: tag.to_owned(),
        }),
        dataset_type: DatasetType::DatasetValidation.into(),
    });
    let experiment = Experiment {
        time_created_secs: seconds(created_at),
        hparam_infos: hparam_infos.collect(),
        metric_infos: metric_infos.to_vec(),
        name: spec.name.to_string(),
    };
    hparams(EXPERIMENT, Data::Experiment(experiment))
}

/// A hyperparameter and all its values. The page filters by them.
fn info<'a>(name: &str, values: impl Iterator<Item = &'a Kind>) -> HParamInfo {
    let (mut texts, mut numbers) = (BTreeSet::new(), Vec::new());
    for value in values {
        match value {
            Kind::StringValue(text) => {
                texts.insert(text);
            }
            Kind::NumberValue(number) => numbers.push(*number),
        }
    }
    let (kind, domain, differs) = if texts.is_empty() {
        let min_value = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let max_value = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let interval = Interval {
            min_value,
            max_value,
        };
        let differs = min_value < max_value;
        (DataType::Float64, Domain::DomainInterval(interval), differs)
    } else {
        let differs = texts.len() > 1;
        let values = texts
            .into_iter()
            .map(|text| value(Kind::StringValue(text.clone())));
        let list = ListValue {
            values: values.collect(),
        };
        (DataType::String, Domain::DomainDiscrete(list), differs)
    };
    HParamInfo {
        name: name.to_owned(),
        r#type: kind.into(),
        domain: Some(domain),
        differs,
    }
}

/// A run's hyperparameters.
pub(crate) fn session_start(
    spec: &ExperimentSpec,
    run: &RunSpec,
    started_at: Option<Timestamp>,
) -> Summary {
    let hparams_of_run = hyperparameters(spec, run).into_iter();
    let start = SessionStartInfo {
        hparams: hparams_of_run
            .map(|(name, kind)| (name.to_owned(), value(kind)))
            .collect(),
        start_time_secs: seconds(started_at),
    };
    hparams(SESSION_START, Data::SessionStartInfo(start))
}

/// A run's end.
pub(crate) fn session_end(status: Status, ended_at: Option<Timestamp>) -> Summary {
    let end = SessionEndInfo {
        status: status.into(),
        end_time_secs: seconds(ended_at),
    };
    hparams(SESSION_END, Data::SessionEndInfo(end))
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}
