//! Events as sentences.

use quartet_shared::event::{AttemptEnd, Occurrence, Worker, resumed_after};
use quartet_shared::label::MAX_LABEL;
use quartet_shared::position::Position;

use crate::text::{clean, percent, reason};

/// Whether it is something that one would rather not read.
pub(crate) fn is_bad(what: &Occurrence) -> bool {
    match what {
        Occurrence::WorkerLost { .. }
        | Occurrence::RolledBack { .. }
        | Occurrence::TaskFailed { .. } => true,
        Occurrence::AttemptEnded { how, .. } => *how != AttemptEnd::HandedBack,
        _ => false,
    }
}

/// What happened, in English and without a full stop. It contains foreign text, on one line.
#[must_use]
pub fn sentence(what: &Occurrence) -> String {
    match what {
        Occurrence::CoordinatorStarted {
            term,
            host,
            version,
        } => {
            let (host, version) = (clean(host, MAX_LABEL), clean(version, MAX_LABEL));
            format!("coordinator {term} began to serve on {host} (Quartet {version})")
        }
        Occurrence::CoordinatorStopped { reason: why } => {
            format!("the coordinator stopped: {}", reason(why))
        }
        Occurrence::Revised { revision, changes } => {
            let changes: Vec<String> = changes.iter().map(|change| reason(change)).collect();
            format!("revision {revision}: {}", changes.join(", "))
        }
        Occurrence::Retried { task } => format!("{task} was given another budget"),
        Occurrence::WorkerJoined { worker, device } => {
            format!(
                "worker {} joined with {}",
                name(worker),
                clean(device, MAX_LABEL)
            )
        }
        Occurrence::WorkerReturned { worker, task } => match task {
            Some(task) => format!("worker {} is back and still works on {task}", name(worker)),
            None => format!("worker {} is back", name(worker)),
        },
        Occurrence::WorkerDisconnected { worker } => {
            format!("the connection of worker {} ended", name(worker))
        }
        Occurrence::WorkerLost { worker } => format!("worker {} was lost", name(worker)),
        Occurrence::WorkerDrained { worker } => {
            format!("worker {} was asked to leave", name(worker))
        }
        Occurrence::WorkerLeft { worker } => format!("worker {} left", name(worker)),
        Occurrence::AttemptStarted {
            task,
            attempt,
            worker,
            resume,
        } => {
            format!(
                "worker {} began attempt {attempt} at {task} {}",
                name(worker),
                from(*resume)
            )
        }
        Occurrence::AttemptEnded {
            task,
            attempt,
            worker,
            how,
            reason: why,
        } => {
            // Such a reason names the worker, and says that it was lost.
            if let (AttemptEnd::Lost, Some(why)) = (how, why) {
                return format!("{}; it was in attempt {attempt} at {task}", reason(why));
            }
            let how = match how {
                AttemptEnd::Lost => "was lost in",
                AttemptEnd::Failed => "failed in",
                AttemptEnd::Rejected => "rejected",
                AttemptEnd::HandedBack => "handed back",
            };
            let why = why
                .as_deref()
                .map_or_else(String::new, |why| format!(": {}", reason(why)));
            format!(
                "worker {} {how} attempt {attempt} at {task}{why}",
                name(worker)
            )
        }
        Occurrence::RolledBack {
            run,
            to,
            reason: why,
        } => {
            format!("{run} goes on {}: {}", from(*to), reason(why))
        }
        Occurrence::RunFinished { run, outcome, .. } => format!(
            "{run} is trained: best validation accuracy {} after epoch {} of {}",
            percent(outcome.best_valid_accuracy),
            outcome.best_epoch,
            outcome.epochs
        ),
        Occurrence::TaskFailed { task, reason: why } => {
            format!("{task} failed for good: {}", reason(why))
        }
        Occurrence::Evaluated { .. } => "the ensemble is evaluated".to_owned(),
    }
}

fn name(worker: &Worker) -> String {
    clean(&worker.name, MAX_LABEL)
}

fn from(position: Position) -> String {
    resumed_after(position).unwrap_or_else(|| "from the start".to_owned())
}
