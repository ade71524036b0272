//! Attempts and events.

use quartet_history::{AttemptResult, AttemptSummary, ExperimentRecord};
use quartet_shared::event::{AttemptEnd, Event, Occurrence, Worker};
use quartet_shared::ids::{Attempt, Epoch, Term};
use quartet_shared::position::Position;
use quartet_shared::provenance::Provenance;
use quartet_shared::task::Task;

use super::later;

pub(crate) const LOST: &str = "no heartbeat for 60 s";

pub(crate) fn worker(index: usize) -> Worker {
    Worker {
        id: format!("w{index}").parse().unwrap(),
        name: format!("gpu-{}@node{}", index % 4, index / 4 + 1),
    }
}

/// Each first attempt is made on one machine, later ones on another.
pub(crate) fn provenance(attempt: Attempt) -> Provenance {
    let known = |text: &str| Some(text.to_owned());
    Provenance {
        device: known("GPU 0 (LibTorch), NVIDIA H100 80GB HBM3"),
        version: known("0.1.0"),
        commit: known("65b06f0a1b2c"),
        features: known("flex tch"),
        host: known(if attempt == Attempt(1) {
            "node1"
        } else {
            "node2 <spot>"
        }),
        cpu: known("AMD EPYC 9554 64-Core Processor, 16 cores"),
        gpu: known("NVIDIA H100 80GB HBM3"),
        driver: known("570.86.15"),
        libtorch: known("2.9.0"),
    }
}

/// One attempt at each run that has epochs; workers of runs with an even seed were lost once.
pub(crate) fn of_runs(record: &mut ExperimentRecord) {
    let host = "login-2".to_owned();
    let started = Occurrence::CoordinatorStarted {
        term: Term(1),
        host,
        version: "0.1.0".to_owned(),
    };
    record.events.push(Event {
        at: later(0),
        what: started,
    });
    for (index, run) in record.runs.iter_mut().enumerate() {
        let Some(last) = run.epochs.last() else {
            continue;
        };
        let (end, worker) = (last.committed_at.unwrap(), worker(index));
        let task = Task::Train(run.spec.name.clone());
        let at = later(10 + index as u64);
        let device = "NVIDIA H100 80GB HBM3".to_owned();
        record.events.push(Event {
            at,
            what: Occurrence::WorkerJoined {
                worker: worker.clone(),
                device,
            },
        });
        let lost = run
            .epochs
            .iter()
            .find(|epoch| epoch.attempt == Attempt(2))
            .map(|epoch| epoch.committed_at.unwrap());
        let attempts = if lost.is_some() { 2 } else { 1 };
        for number in 1..=attempts {
            let ended = if number == attempts {
                end
            } else {
                lost.unwrap()
            };
            let how = (number < attempts).then_some(AttemptEnd::Lost);
            let reason = how.map(|_| LOST.to_owned());
            let resume = Position::end_of(Epoch(if number == 1 { 0 } else { 11 }));
            let attempt = Attempt(number);
            let at = if number == 1 { at } else { lost.unwrap() };
            let what = Occurrence::AttemptStarted {
                task: task.clone(),
                attempt,
                worker: worker.clone(),
                resume,
            };
            record.events.push(Event { at, what });
            if let Some(how) = how {
                let (task, reason) = (task.clone(), reason.clone());
                let what = Occurrence::AttemptEnded {
                    task,
                    attempt,
                    worker: worker.clone(),
                    how,
                    reason,
                };
                record.events.push(Event { at: ended, what });
            }
            run.attempts.push(AttemptSummary {
                attempt,
                worker: worker.name.clone(),
                term: Term(1),
                started_at: at,
                resume,
                result: (how.is_some() || run.outcome.is_some()).then_some(AttemptResult {
                    at: ended,
                    how,
                    reason,
                }),
                provenance: provenance(attempt),
            });
        }
        if let Some(outcome) = run.outcome {
            let what = Occurrence::RunFinished {
                run: run.spec.name.clone(),
                attempt: Attempt(attempts),
                outcome,
            };
            record.events.push(Event { at: end, what });
        }
    }
    record.events.sort_by_key(|event| event.at);
}

/// The ensemble is evaluated by the first worker.
pub(crate) fn of_evaluation(record: &mut ExperimentRecord) {
    let began = record.last_sign().unwrap();
    let at = quartet_shared::clock::Timestamp(began.0 + 48_000);
    record.evaluation_attempts.push(AttemptSummary {
        attempt: Attempt(1),
        worker: worker(0).name,
        term: Term(1),
        started_at: began,
        resume: Position::default(),
        result: Some(AttemptResult {
            at,
            how: None,
            reason: None,
        }),
        provenance: provenance(Attempt(1)),
    });
    record.events.push(Event {
        at,
        what: Occurrence::Evaluated {
            attempt: Attempt(1),
        },
    });
}

/// The first run fails for good, and the coordinator stops.
pub(crate) fn of_failure(record: &mut ExperimentRecord) {
    let reason = "LibTorch: CUDA out of memory. Tried to allocate 1.25 GiB (GPU 0; 15.78 GiB total capacity)";
    let run = &mut record.runs[0];
    let at = record.events.last().unwrap().at;
    run.failure = Some(reason.to_owned());
    run.attempts.last_mut().unwrap().result = Some(AttemptResult {
        at,
        how: Some(AttemptEnd::Failed),
        reason: Some(reason.to_owned()),
    });
    let task = Task::Train(run.spec.name.clone());
    record.events.push(Event {
        at,
        what: Occurrence::TaskFailed {
            task,
            reason: reason.to_owned(),
        },
    });
    let reason = "asked to stop by SIGTERM".to_owned();
    record.events.push(Event {
        at,
        what: Occurrence::CoordinatorStopped { reason },
    });
    record.closed = true;
}
