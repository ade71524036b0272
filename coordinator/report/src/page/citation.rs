//! What it takes to cite an experiment and to do it again.

use quartet_history::{ExperimentRecord, RunRecord};
use quartet_shared::clock::Timestamp;
use quartet_shared::event::Occurrence;
use quartet_shared::ids::Attempt;
use quartet_shared::label::MAX_LABEL;
use quartet_shared::provenance::Provenance;
use quartet_shared::spec::{ExperimentSpec, from_toml, to_toml};

use crate::text::clean;

/// Identity, checksums and the whole spec.
pub(super) struct Citation {
    pub(super) id: String,
    pub(super) revision: String,
    pub(super) seed: u64,
    pub(super) dataset: String,
    pub(super) runs: Vec<Origin>,
    pub(super) coordinators: Vec<Coordinator>,
    pub(super) machines: Vec<Machine>,
    pub(super) toml: String,
}

/// Where the weights of a run come from.
pub(super) struct Origin {
    pub(super) run: String,
    pub(super) seed: u64,
    pub(super) initial: String,
    pub(super) initial_checksum: String,
    pub(super) best_epoch: String,
    pub(super) best_checksum: String,
}

/// A coordinator that led.
pub(super) struct Coordinator {
    pub(super) term: String,
    pub(super) host: String,
    pub(super) version: String,
    pub(super) since: String,
}

/// A program and a machine that attempts were made with.
pub(super) struct Machine {
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) attempts: String,
}

/// Attempts that are named of each machine; more are counted.
const NAMED: usize = 8;

/// The programs and machines of all attempts, in the order in which they came, each with its attempts.
fn machines(record: &ExperimentRecord) -> Vec<Machine> {
    let runs = record
        .runs
        .iter()
        .map(|run| (run.spec.name.as_str(), &run.attempts));
    let tasks = runs.chain([("evaluation", &record.evaluation_attempts)]);
    let attempts = tasks.flat_map(|(task, attempts)| attempts.iter().map(move |one| (task, one)));
    let mut machines: Vec<(&Provenance, Vec<(&str, Attempt)>)> = Vec::new();
    for (task, attempt) in attempts.filter(|(_, attempt)| !attempt.provenance.is_empty()) {
        let of = (task, attempt.attempt);
        match machines
            .iter_mut()
            .find(|(provenance, _)| *provenance == &attempt.provenance)
        {
            Some((_, attempts)) => attempts.push(of),
            None => machines.push((&attempt.provenance, vec![of])),
        }
    }
    let machine = |(provenance, attempts): (&Provenance, Vec<(&str, Attempt)>)| Machine {
        facts: provenance
            .known()
            .map(|(name, value)| (name, clean(value, MAX_LABEL)))
            .collect(),
        attempts: named(&attempts),
    };
    machines.into_iter().map(machine).collect()
}

/// As in "vgg16 1, vgg16 3, evaluation 1".
fn named(attempts: &[(&str, Attempt)]) -> String {
    let named = attempts.iter().take(NAMED);
    let mut text: Vec<String> = named
        .map(|(task, attempt)| format!("{task} {attempt}"))
        .collect();
    if attempts.len() > NAMED {
        text.push(format!("and {} more", attempts.len() - NAMED));
    }
    text.join(", ")
}

pub(super) fn citation(record: &ExperimentRecord) -> Citation {
    let spec = &record.spec;
    let coordinators = record.events.iter().filter_map(|event| match &event.what {
        Occurrence::CoordinatorStarted {
            term,
            host,
            version,
        } => Some(Coordinator {
            term: term.to_string(),
            host: clean(host, MAX_LABEL),
            version: clean(version, MAX_LABEL),
            since: Timestamp::minute(event.at),
        }),
        _ => None,
    });
    Citation {
        id: spec.id.as_ref().map_or_else(
            || "none: an earlier version created it".to_owned(),
            ToString::to_string,
        ),
        revision: spec.revision().to_string(),
        seed: spec.experiment.seed,
        dataset: spec.dataset.blob.sha256.to_string(),
        runs: record.runs.iter().map(|run| origin(record, run)).collect(),
        coordinators: coordinators.collect(),
        machines: machines(record),
        toml: without_comments(&spec.experiment),
    }
}

fn origin(record: &ExperimentRecord, run: &RunRecord) -> Origin {
    let initial = record.spec.weights.get(&run.spec.name);
    let best = run.best_epoch();
    let mut source = String::from(run.spec.weights.clone());
    if let Some(of) = record.spec.origins.get(&run.spec.name) {
        source.push_str(&format!(", epoch {}", of.epoch));
    }
    let none = || "–".to_owned();
    Origin {
        run: run.spec.name.to_string(),
        seed: run.spec.seed,
        initial: clean(&source, MAX_LABEL),
        initial_checksum: initial.map_or_else(none, |initial| initial.blob.sha256.to_string()),
        best_epoch: best.map_or_else(none, |best| best.epoch.to_string()),
        best_checksum: best.map_or_else(none, |best| best.weights.blob.sha256.to_string()),
    }
}

/// The spec as TOML. Comments, which take most of its lines, are left out as long as nothing else is with
/// them.
fn without_comments(spec: &ExperimentSpec) -> String {
    let whole = to_toml(spec);
    let lines = whole.lines().filter(|line| !line.starts_with('#'));
    let short = lines.fold(String::new(), |text, line| text + line + "\n");
    let is_same = from_toml(&short, "report").is_ok_and(|read| read == *spec);
    if is_same {
        short.trim().to_owned()
    } else {
        whole
    }
}
