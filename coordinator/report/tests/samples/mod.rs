//! Experiments as a night of training leaves them, made of a formula and a little noise.

mod evaluation;
pub(crate) mod history;

use std::time::Duration;

use quartet_history::{EpochSummary, ExperimentRecord, RunRecord};
use quartet_report::Findings;
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::clock::Timestamp;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::{Attempt, Epoch, Term};
use quartet_shared::outcome::Outcome;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::spec::{Preset, RunSpec};
use quartet_store::manifest::StoredSpec;

/// When all samples begin.
pub(crate) const BEGIN: Timestamp = Timestamp(1_795_727_935_000);
/// When their reports are written.
pub(crate) const NOW: Timestamp = Timestamp(1_795_790_000_000);

/// Four runs of 30 epochs that have finished, and what the ensemble says of the images.
pub(crate) fn finished() -> (ExperimentRecord, Vec<Findings>) {
    trained(4, 30)
}

/// So many runs of so many epochs that have finished.
pub(crate) fn trained(runs: usize, epochs: u32) -> (ExperimentRecord, Vec<Findings>) {
    let mut record = begun(runs, epochs);
    for run in &mut record.runs {
        train(run, epochs);
    }
    history::of_runs(&mut record);
    let (report, predictions) = evaluation::of(&record);
    record.report = Some(report);
    history::of_evaluation(&mut record);
    (record, predictions)
}

/// Four runs, of which one has failed after 12 epochs, one diverges, one is in its first epoch and one is
/// done.
pub(crate) fn failed() -> ExperimentRecord {
    let mut record = begun(4, 30);
    train(&mut record.runs[0], 12);
    record.runs[0].outcome = None;
    train(&mut record.runs[1], 20);
    record.runs[1].outcome = None;
    for epoch in &mut record.runs[1].epochs[8..] {
        epoch.metrics.train_loss = 1e4 * f64::from(epoch.epoch.0);
        epoch.metrics.valid_loss = f64::NAN;
    }
    train(&mut record.runs[3], 30);
    history::of_runs(&mut record);
    history::of_failure(&mut record);
    record
}

/// An experiment that was just created: nothing has happened.
pub(crate) fn begun(runs: usize, epochs: u32) -> ExperimentRecord {
    let mut experiment = Preset::Fer2013.spec();
    experiment.name = "faces-2026-11".parse().unwrap();
    experiment.epochs = epochs;
    let four = experiment.runs.clone();
    let runs = (0..runs).map(|index| {
        let run = four[index % four.len()].clone();
        let name = if runs > four.len() {
            format!("{}-{:02}", run.name, index / four.len())
        } else {
            run.name.to_string()
        };
        RunSpec {
            name: name.parse().unwrap(),
            seed: run.seed % 100_000 + index as u64,
            ..run
        }
    });
    experiment.runs = runs.collect();
    let weights = experiment.runs.iter().map(|run| {
        (
            run.name.clone(),
            blob(&format!("weights of {}", run.backbone)),
        )
    });
    ExperimentRecord {
        runs: experiment.runs.iter().map(untrained).collect(),
        evaluation_attempts: Vec::new(),
        report: None,
        events: Vec::new(),
        term: Some(Term(1)),
        closed: false,
        evaluation_failure: None,
        unreadable: Vec::new(),
        spec: StoredSpec {
            note: None,
            tags: Vec::new(),
            forked_from: None,
            revised: None,
            format: 1,
            id: Some("q7f3k2m9".parse().unwrap()),
            weights: weights.collect(),
            dataset: BlobRef {
                key: "datasets/x.qds".to_owned(),
                blob: Blob {
                    size: 82_713_011,
                    ..blob("data").blob
                },
            },
            data_fingerprint: None,
            data_origin: None,
            origins: Default::default(),
            created_at: Some(BEGIN),
            experiment,
        },
    }
}

fn untrained(run: &RunSpec) -> RunRecord {
    RunRecord {
        spec: run.clone(),
        epochs: Vec::new(),
        attempts: Vec::new(),
        outcome: None,
        failure: None,
    }
}

/// Trains all epochs of a run.
pub(crate) fn train(run: &mut RunRecord, epochs: u32) {
    let mut state = None;
    let seed = run.spec.seed;
    let (speed, best) = (300.0 + noise(seed, 1) * 150.0, 0.62 + noise(seed, 2) * 0.05);
    for epoch in 1..=epochs {
        let at = f64::from(epoch);
        let learned = 1.0 - (-at / (4.0 + noise(seed, 3))).exp();
        let valid_accuracy = 0.2 + (best - 0.2) * learned + noise(seed, 100 + epoch) * 0.012;
        state = Some(EarlyStopping::observe(state, Epoch(epoch), valid_accuracy));
        let overfitting = (at / f64::from(epochs)).powi(2) * 0.25;
        let seconds = 28_709.0 / speed + 6.0;
        run.epochs.push(EpochSummary {
            epoch: Epoch(epoch),
            attempt: Attempt(if epoch > 11 && seed.is_multiple_of(2) {
                2
            } else {
                1
            }),
            committed_at: Some(later((f64::from(epoch) * seconds) as u64 + 30)),
            metrics: EpochMetrics {
                train_loss: 1.9 - 1.45 * learned + noise(seed, 200 + epoch) * 0.02,
                train_accuracy: 0.18 + 0.7 * learned + noise(seed, 300 + epoch) * 0.006,
                valid_loss: 1.8 - 0.75 * learned + overfitting + noise(seed, 400 + epoch) * 0.04,
                valid_accuracy,
                images_per_second: speed + noise(seed, 500 + epoch) * 9.0,
                seconds,
            },
            early_stopping: state.unwrap(),
            weights: blob(&format!("{} {epoch}", run.spec.name)),
        });
    }
    run.outcome = state.and_then(|state| Outcome::after(Epoch(epochs), state, epochs, 50));
}

/// So many seconds after the beginning.
pub(crate) fn later(seconds: u64) -> Timestamp {
    Timestamp(BEGIN.0 + Duration::from_secs(seconds).as_millis() as u64)
}

/// An object whose checksum is that of its name.
pub(crate) fn blob(name: &str) -> BlobRef {
    BlobRef {
        key: name.to_owned(),
        blob: Blob::of(name.as_bytes()),
    }
}

/// A number in `[-1, 1)` that depends on both.
pub(crate) fn noise(seed: u64, index: u32) -> f64 {
    let mut bits = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ u64::from(index).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 29;
    (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}
