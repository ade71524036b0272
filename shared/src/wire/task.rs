//! Tasks and leases.

use quartet_proto::v1;
use quartet_proto::v1::task::Kind;

use super::{WireError, count, name, required};
use crate::ids::Attempt;
use crate::task::{LeaseId, Task};

impl From<Task> for v1::Task {
    fn from(task: Task) -> Self {
        let kind = match task {
            Task::Train(run) => Kind::Run(run.into()),
            Task::Evaluate => Kind::Evaluation(v1::Evaluation {}),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::Task> for Task {
    type Error = WireError;

    fn try_from(task: v1::Task) -> Result<Self, WireError> {
        match task.kind.ok_or(WireError::Missing("task.kind"))? {
            Kind::Run(run) => Ok(Self::Train(name(run, "task.run")?)),
            Kind::Evaluation(v1::Evaluation {}) => Ok(Self::Evaluate),
        }
    }
}

impl From<LeaseId> for v1::Lease {
    fn from(lease: LeaseId) -> Self {
        Self {
            task: Some(lease.task.into()),
            attempt: lease.attempt.0,
            worker_id: lease.worker.into(),
            experiment_id: lease.experiment.into(),
        }
    }
}

impl TryFrom<v1::Lease> for LeaseId {
    type Error = WireError;

    fn try_from(lease: v1::Lease) -> Result<Self, WireError> {
        let task = required(lease.task, "lease.task")?;
        if lease.attempt == 0 {
            return Err(WireError::Range {
                field: "lease.attempt",
                range: "at least 1",
                value: 0.0,
            });
        }
        let worker = name(lease.worker_id, "lease.worker_id")?;
        Ok(Self {
            experiment: name(lease.experiment_id, "lease.experiment_id")?,
            task,
            attempt: Attempt(count(lease.attempt, "lease.attempt")?),
            worker,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(task: Task) -> LeaseId {
        LeaseId {
            experiment: "x-1".parse().unwrap(),
            task,
            attempt: Attempt(3),
            worker: "w-1".parse().unwrap(),
        }
    }

    #[test]
    fn leases_survive_the_wire() {
        for task in [Task::Train("vgg16".parse().unwrap()), Task::Evaluate] {
            let lease = lease(task);
            assert_eq!(LeaseId::try_from(v1::Lease::from(lease.clone())), Ok(lease));
        }
    }

    #[test]
    fn incomplete_leases_are_refused() {
        type Change = fn(&mut v1::Lease);
        let changes: [(&str, Change); 5] = [
            ("lease.task is missing", |lease| lease.task = None),
            ("task.kind is missing", |lease| {
                lease.task = Some(v1::Task { kind: None })
            }),
            ("task.run: \"../x\" is not a valid name", |lease| {
                lease.task = Some(v1::Task {
                    kind: Some(Kind::Run("../x".to_owned())),
                });
            }),
            ("lease.attempt must be at least 1, not 0", |lease| {
                lease.attempt = 0
            }),
            ("lease.worker_id: \"\" is not a valid name", |lease| {
                lease.worker_id.clear()
            }),
        ];
        for (message, change) in changes {
            let mut wire = v1::Lease::from(lease(Task::Evaluate));
            change(&mut wire);
            let error = LeaseId::try_from(wire).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
