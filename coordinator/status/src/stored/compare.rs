//! Experiments beside each other: a column for each.

use std::collections::{BTreeMap, BTreeSet};

use quartet_history::{ExperimentRecord, RunRecord};
use quartet_shared::dataset::Split;
use quartet_shared::ids::RunName;
use serde_json::Value;

use super::table::{Cell, Heading, Table};

/// Accuracies, the keys of the specs that differ, times and speeds. Experiments of one name are told apart by
/// their places.
pub(super) fn table(records: &[ExperimentRecord], places: &[String]) -> Table {
    let mut columns = vec![Heading::text("what", "", 0)];
    for (record, place) in records.iter().zip(places) {
        let name = record.spec.experiment.name.as_str();
        // Two stores may have experiments of one name.
        let others = records
            .iter()
            .filter(|other| other.spec.experiment.name.as_str() == name);
        let key = match others.count() {
            1 => name.to_owned(),
            _ => place.clone(),
        };
        columns.push(Heading::number(&key, &key, 0));
    }
    let mut rows = Vec::new();
    let mut row = |what: &str, cell: &dyn Fn(&ExperimentRecord) -> Cell| {
        let cells = records.iter().map(cell);
        rows.push(std::iter::once(Cell::text(what)).chain(cells).collect());
    };
    row("state", &|record| Cell::text(record.standing().as_str()));
    row("revision", &|record| Cell::count(record.spec.revision().0));
    row("ensemble valid", &|record| {
        Cell::fraction(record.ensemble_accuracy(Split::Valid))
    });
    row("ensemble test", &|record| {
        Cell::fraction(record.ensemble_accuracy(Split::Test))
    });
    row("ensemble without", &|record| Cell::text(&record.missing()));
    for run in runs(records) {
        row(&format!("{run} best valid"), &|record| {
            let best = run_of(record, run.as_str()).and_then(RunRecord::best);
            Cell::fraction(best.map(|best| best.best_valid_accuracy))
        });
        row(&format!("{run} test"), &|record| {
            Cell::fraction(record.member_accuracy(&run, Split::Test))
        });
        row(&format!("{run} img/s"), &|record| {
            let speed = run_of(record, run.as_str()).and_then(RunRecord::images_per_second);
            Cell::number(speed, 1)
        });
    }
    row("took", &|record| Cell::duration(record.took()));
    row("data", &|record| {
        let sum = record.spec.dataset.blob.sha256.to_string();
        Cell::new(sum.chars().take(12).collect(), sum)
    });
    row("data from", &|record| {
        let origin = record.spec.data_origin.as_deref();
        origin.map_or_else(Cell::absent, Cell::text)
    });
    row("tags", &|record| Cell::text(&record.spec.tags.join(", ")));
    row("note", &|record| {
        let note = record.spec.note.as_deref();
        note.map_or_else(Cell::absent, Cell::text)
    });
    for key in differing(records) {
        row(&key, &|record| match keys(record).remove(&key) {
            Some(Value::String(text)) => Cell::text(&text),
            Some(value) => Cell::new(value.to_string(), value),
            None => Cell::absent(),
        });
    }
    // Rows of words that nobody has said.
    rows.retain(|row: &Vec<Cell>| {
        if row[0].text == "revision" {
            return row[1..].iter().any(|cell| cell.text != "1");
        }
        let optional =
            ["ensemble without", "data from", "tags", "note"].contains(&&row[0].text[..]);
        !optional || row[1..].iter().any(|cell| !cell.text.is_empty())
    });
    Table { columns, rows }
}

/// The runs of all experiments, in the order in which they come first.
fn runs(records: &[ExperimentRecord]) -> Vec<RunName> {
    let mut names = Vec::new();
    for run in records.iter().flat_map(|record| &record.runs) {
        if !names.contains(&run.spec.name) {
            names.push(run.spec.name.clone());
        }
    }
    names
}

fn run_of<'a>(record: &'a ExperimentRecord, name: &str) -> Option<&'a RunRecord> {
    let mut runs = record.runs.iter();
    runs.find(|run| run.spec.name.as_str() == name)
}

/// The keys of the specs whose values are not the same in all experiments. Of a run that some of them do not
/// have it is the backbone: nothing else of it can be compared.
fn differing(records: &[ExperimentRecord]) -> Vec<String> {
    let all: Vec<_> = records.iter().map(keys).collect();
    let names: BTreeSet<&String> = all.iter().flat_map(|keys| keys.keys()).collect();
    let differs = |name: &&&String| {
        let mut values = all.iter().map(|keys| keys.get(&name[..]));
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let comparable = |name: &&&String| match name.rsplit_once('.') {
        Some((run, key)) if runs(records).iter().any(|known| known.as_str() == run) => {
            key == "backbone" || records.iter().all(|record| run_of(record, run).is_some())
        }
        _ => true,
    };
    names
        .iter()
        .filter(differs)
        .filter(comparable)
        .map(|name| (*name).clone())
        .collect()
}

/// The keys of a spec with their values: `batch_size`, `augmentation.shift`, `vgg16.learning_rate`.
fn keys(record: &ExperimentRecord) -> BTreeMap<String, Value> {
    let mut keys = BTreeMap::new();
    let spec = serde_json::to_value(&record.spec.experiment).unwrap_or_default();
    let Value::Object(spec) = spec else {
        return keys;
    };
    for (key, value) in spec {
        match value {
            Value::Array(runs) if key == "runs" => {
                for run in runs {
                    let name = run["name"].as_str().unwrap_or_default().to_owned();
                    flatten(&name, run, &mut keys);
                }
            }
            // Names of experiments always differ.
            _ if key == "name" => {}
            value => flatten(&key, value, &mut keys),
        }
    }
    keys
}

fn flatten(prefix: &str, value: Value, keys: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(&format!("{prefix}.{key}"), value, keys);
            }
        }
        value => drop(keys.insert(prefix.to_owned(), value)),
    }
}
