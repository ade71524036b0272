//! What happens to an experiment, as its history keeps it.
//!
//! What else the store records (epochs, their metrics) is not told again here.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::{Attempt, Epoch, Revision, RunName, Term, WorkerId};
use crate::outcome::Outcome;
use crate::position::Position;
use crate::task::Task;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When the coordinator learned of it, by its machine's clock.
    pub at: Timestamp,
    /// What it was.
    #[serde(flatten)]
    pub what: Occurrence,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Occurrence {
    /// A coordinator has begun to serve.
    CoordinatorStarted {
        /// Its claim.
        term: Term,
        /// Its machine.
        host: String,
        /// Its version of Quartet.
        version: String,
    },
    /// A coordinator has stopped before the end.
    CoordinatorStopped {
        /// Why.
        reason: String,
    },
    /// The experiment was changed.
    Revised {
        /// The number of its new form.
        revision: Revision,
        /// What is new, a line each.
        changes: Vec<String>,
    },
    /// Someone has given a task that had failed for good another budget.
    Retried {
        /// The task.
        task: Task,
    },
    /// A worker has joined the fleet.
    WorkerJoined {
        /// The worker.
        worker: Worker,
        /// What it computes on.
        device: String,
    },
    /// A worker is back whose connection had ended.
    WorkerReturned {
        /// The worker.
        worker: Worker,
        /// What it still works on.
        task: Option<Task>,
    },
    /// The connection of a worker with a task has ended; it may come back.
    WorkerDisconnected {
        /// The worker.
        worker: Worker,
    },
    /// A worker is not heard of any more.
    WorkerLost {
        /// The worker.
        worker: Worker,
    },
    /// A worker was asked to hand its task back and leave.
    WorkerDrained {
        /// The worker.
        worker: Worker,
    },
    /// A worker has left, as one does that exits.
    WorkerLeft {
        /// The worker.
        worker: Worker,
    },
    /// A worker has begun an attempt at a task.
    AttemptStarted {
        /// The task.
        task: Task,
        /// The attempt.
        attempt: Attempt,
        /// The worker.
        worker: Worker,
        /// Where it goes on from.
        resume: Position,
    },
    /// An attempt has ended without a result.
    AttemptEnded {
        /// The task.
        task: Task,
        /// The attempt.
        attempt: Attempt,
        /// The worker.
        worker: Worker,
        /// How it ended.
        how: AttemptEnd,
        /// Why; absent if the worker handed the task back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A checkpoint was corrupt, and its run is trained again from an earlier one.
    RolledBack {
        /// The run.
        run: RunName,
        /// Where it goes on from.
        to: Position,
        /// What was wrong.
        reason: String,
    },
    /// A run is trained.
    RunFinished {
        /// The run.
        run: RunName,
        /// The attempt.
        attempt: Attempt,
        /// Its result.
        outcome: Outcome,
    },
    /// A task has failed for good.
    TaskFailed {
        /// The task.
        task: Task,
        /// Why.
        reason: String,
    },
    /// The ensemble is evaluated.
    Evaluated {
        /// The attempt.
        attempt: Attempt,
    },
}

/// A worker, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its identity.
    pub id: WorkerId,
    /// Its name for people.
    pub name: String,
}

/// How an attempt ended that has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    /// Its worker was lost.
    Lost,
    /// The task failed.
    Failed,
    /// No worker can do the task.
    Rejected,
    /// Its worker handed the task back.
    HandedBack,
}

impl Occurrence {
    /// The task that it is about.
    #[must_use]
    pub fn task(&self) -> Option<Task> {
        match self {
            Self::AttemptStarted { task, .. }
            | Self::AttemptEnded { task, .. }
            | Self::Retried { task }
            | Self::TaskFailed { task, .. } => Some(task.clone()),
            Self::RolledBack { run, .. } | Self::RunFinished { run, .. } => {
                Some(Task::Train(run.clone()))
            }
            Self::Evaluated { .. } => Some(Task::Evaluate),
            _ => None,
        }
    }

    /// Whether it is about the fleet alone. Of that, thousands of events may come at once.
    #[must_use]
    pub fn is_of_fleet(&self) -> bool {
        matches!(
            self,
            Self::WorkerJoined { .. }
                | Self::WorkerReturned { .. }
                | Self::WorkerDisconnected { .. }
                | Self::WorkerLost { .. }
                | Self::WorkerDrained { .. }
                | Self::WorkerLeft { .. }
        )
    }
}

/// The end of the last epoch before a position, for a sentence: `epoch 3`, `epoch 4, step 120`.
#[must_use]
pub fn resumed_after(position: Position) -> Option<String> {
    (position > Position::end_of(Epoch(0))).then(|| match position.step {
        0 => format!("after epoch {}", position.epoch),
        step => format!("within epoch {}, after step {step}", position.epoch.next()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_flat_json() {
        let event = Event {
            at: Timestamp::from_seconds(1_795_727_935),
            what: Occurrence::AttemptEnded {
                task: Task::Train("a".parse().unwrap()),
                attempt: Attempt(2),
                worker: Worker {
                    id: "w1".parse().unwrap(),
                    name: "gpu-0@node7".into(),
                },
                how: AttemptEnd::HandedBack,
                reason: None,
            },
        };
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(
            json,
            r#"{"at":"2026-11-26T21:18:55.000Z","event":"attempt_ended","task":{"train":"a"},"attempt":2,"#
                .to_owned()
                + r#""worker":{"id":"w1","name":"gpu-0@node7"},"how":"handed_back"}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }

    #[test]
    fn a_resume_is_told_by_what_is_done() {
        let told = |epoch, step| {
            resumed_after(Position {
                epoch: Epoch(epoch),
                step,
            })
        };
        assert_eq!(told(0, 0), None);
        assert_eq!(told(2, 0).unwrap(), "after epoch 2");
        assert_eq!(told(4, 20).unwrap(), "within epoch 5, after step 20");
    }
}
