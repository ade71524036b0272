//! Conversions between snapshots and the protocol's messages. The parts that `quartet-shared` defines (tasks,
//! states, progress, metrics) are converted by its `wire`.

use std::fmt::Display;
use std::time::Duration;

use quartet_proto::v1;
use quartet_shared::ids::{Attempt, Epoch, Revision, Term};

use super::{
    EpochStatus, EvaluationStatus, RunStatus, Snapshot, SplitAccuracy, StoreTrouble, WorkerStatus,
};

/// A message that is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad {field}: {problem}")]
pub struct InvalidSnapshot {
    field: &'static str,
    problem: String,
}

type Checked<T> = Result<T, InvalidSnapshot>;

/// Names the field of an error.
fn bad<E: Display>(field: &'static str) -> impl FnOnce(E) -> InvalidSnapshot {
    move |problem| InvalidSnapshot {
        field,
        problem: problem.to_string(),
    }
}

fn optional<T, U: TryFrom<T, Error: Display>>(
    field: &'static str,
    value: Option<T>,
) -> Checked<Option<U>> {
    value.map(TryInto::try_into).transpose().map_err(bad(field))
}

fn text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The state that a message of type `M` names by number.
fn state<M: TryFrom<i32>, T: TryFrom<M>>(number: i32) -> Checked<T> {
    let message =
        M::try_from(number).map_err(|_| bad("state")(format!("unknown number {number}")))?;
    T::try_from(message).map_err(|_| bad("state")("unspecified"))
}

impl TryFrom<v1::Snapshot> for Snapshot {
    type Error = InvalidSnapshot;

    fn try_from(message: v1::Snapshot) -> Checked<Self> {
        let evaluation = message
            .evaluation
            .ok_or_else(|| bad("evaluation")("missing"))?;
        Ok(Self {
            experiment: message.experiment.parse().map_err(bad("experiment"))?,
            revision: Revision(message.revision.max(1)),
            term: Term(message.term),
            state: state::<v1::ExperimentState, _>(message.state)?,
            workers_expected: message.workers_expected,
            runs: message
                .runs
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Checked<_>>()?,
            workers: message
                .workers
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Checked<_>>()?,
            uptime: Duration::from_millis(message.uptime_ms),
            eta: message.eta_ms.map(Duration::from_millis),
            stopping: message.stopping,
            insecure: message.insecure,
            store_trouble: message.store_trouble.map(|trouble| StoreTrouble {
                since: Duration::from_millis(trouble.since_ms),
                reason: trouble.reason,
            }),
            evaluation: evaluation.try_into()?,
        })
    }
}

impl From<Snapshot> for v1::Snapshot {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            experiment: snapshot.experiment.into(),
            revision: snapshot.revision.0,
            term: snapshot.term.0,
            state: v1::ExperimentState::from(snapshot.state).into(),
            workers_expected: snapshot.workers_expected,
            runs: snapshot.runs.into_iter().map(Into::into).collect(),
            workers: snapshot.workers.into_iter().map(Into::into).collect(),
            uptime_ms: millis(snapshot.uptime),
            eta_ms: snapshot.eta.map(millis),
            stopping: snapshot.stopping,
            insecure: snapshot.insecure,
            store_trouble: snapshot.store_trouble.map(|trouble| v1::StoreTrouble {
                since_ms: millis(trouble.since),
                reason: trouble.reason,
            }),
            evaluation: Some(snapshot.evaluation.into()),
        }
    }
}

impl TryFrom<v1::RunStatus> for RunStatus {
    type Error = InvalidSnapshot;

    fn try_from(message: v1::RunStatus) -> Checked<Self> {
        Ok(Self {
            name: message.name.parse().map_err(bad("name of a run"))?,
            backbone: message.backbone.parse().map_err(bad("backbone"))?,
            state: state::<v1::TaskState, _>(message.state)?,
            attempt: Attempt(message.attempt),
            worker: text(message.worker),
            epochs_committed: message.epochs_committed,
            steps_committed: message.steps_committed,
            epochs: message.epochs,
            metrics: optional("metrics", message.metrics)?,
            early_stopping: optional("early_stopping", message.early_stopping)?,
            recent_epochs: message
                .recent_epochs
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Checked<_>>()?,
            progress: optional("progress", message.progress)?,
            eta: message.eta_ms.map(Duration::from_millis),
            stalled: message.stalled_ms.map(Duration::from_millis),
            awaited: message.awaited_ms.map(Duration::from_millis),
            reason: text(message.reason),
        })
    }
}

impl From<RunStatus> for v1::RunStatus {
    fn from(run: RunStatus) -> Self {
        Self {
            name: run.name.into(),
            backbone: run.backbone.to_string(),
            state: v1::TaskState::from(run.state).into(),
            attempt: run.attempt.0,
            worker: run.worker.unwrap_or_default(),
            epochs_committed: run.epochs_committed,
            steps_committed: run.steps_committed,
            epochs: run.epochs,
            metrics: run.metrics.map(Into::into),
            early_stopping: run.early_stopping.map(Into::into),
            recent_epochs: run.recent_epochs.into_iter().map(Into::into).collect(),
            progress: run.progress.map(Into::into),
            eta_ms: run.eta.map(millis),
            stalled_ms: run.stalled.map(millis),
            awaited_ms: run.awaited.map(millis),
            reason: run.reason.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::EpochStatus> for EpochStatus {
    type Error = InvalidSnapshot;

    fn try_from(message: v1::EpochStatus) -> Checked<Self> {
        let missing = || bad("recent epoch")("incomplete");
        Ok(Self {
            epoch: Epoch(message.epoch),
            metrics: optional("metrics", message.metrics)?.ok_or_else(missing)?,
            early_stopping: optional("early_stopping", message.early_stopping)?
                .ok_or_else(missing)?,
        })
    }
}

impl From<EpochStatus> for v1::EpochStatus {
    fn from(epoch: EpochStatus) -> Self {
        Self {
            epoch: epoch.epoch.0,
            metrics: Some(epoch.metrics.into()),
            early_stopping: Some(epoch.early_stopping.into()),
        }
    }
}

impl TryFrom<v1::EvaluationStatus> for EvaluationStatus {
    type Error = InvalidSnapshot;

    fn try_from(message: v1::EvaluationStatus) -> Checked<Self> {
        let split = |split: v1::SplitAccuracy| SplitAccuracy {
            split: split.split,
            images: split.images,
            accuracy: split.accuracy,
        };
        Ok(Self {
            state: state::<v1::TaskState, _>(message.state)?,
            attempt: Attempt(message.attempt),
            worker: text(message.worker),
            progress: optional("progress", message.progress)?,
            stalled: message.stalled_ms.map(Duration::from_millis),
            awaited: message.awaited_ms.map(Duration::from_millis),
            reason: text(message.reason),
            splits: message.splits.into_iter().map(split).collect(),
        })
    }
}

impl From<EvaluationStatus> for v1::EvaluationStatus {
    fn from(evaluation: EvaluationStatus) -> Self {
        let split = |split: SplitAccuracy| v1::SplitAccuracy {
            split: split.split,
            images: split.images,
            accuracy: split.accuracy,
        };
        Self {
            state: v1::TaskState::from(evaluation.state).into(),
            attempt: evaluation.attempt.0,
            worker: evaluation.worker.unwrap_or_default(),
            progress: evaluation.progress.map(Into::into),
            stalled_ms: evaluation.stalled.map(millis),
            awaited_ms: evaluation.awaited.map(millis),
            reason: evaluation.reason.unwrap_or_default(),
            splits: evaluation.splits.into_iter().map(split).collect(),
        }
    }
}

impl TryFrom<v1::WorkerStatus> for WorkerStatus {
    type Error = InvalidSnapshot;

    fn try_from(message: v1::WorkerStatus) -> Checked<Self> {
        Ok(Self {
            id: message.id.parse().map_err(bad("id of a worker"))?,
            name: message.name,
            device: message.device,
            state: state::<v1::WorkerState, _>(message.state)?,
            task: optional("task", message.task)?,
            connected: !message.disconnected,
            since_heartbeat: Duration::from_millis(message.since_heartbeat_ms),
            gpu: optional("gpu", message.gpu)?,
            stays: message.stays,
        })
    }
}

impl From<WorkerStatus> for v1::WorkerStatus {
    fn from(worker: WorkerStatus) -> Self {
        Self {
            id: worker.id.into(),
            name: worker.name,
            device: worker.device,
            state: v1::WorkerState::from(worker.state).into(),
            task: worker.task.map(Into::into),
            disconnected: !worker.connected,
            since_heartbeat_ms: millis(worker.since_heartbeat),
            gpu: worker.gpu.map(Into::into),
            stays: worker.stays,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::sample;

    #[test]
    fn snapshots_survive_the_wire() {
        for snapshot in sample::all() {
            let message = v1::Snapshot::from(snapshot.clone());
            assert_eq!(Snapshot::try_from(message).unwrap(), snapshot);
        }
    }

    #[test]
    fn what_is_no_snapshot_is_refused_by_name() {
        let refused = |spoil: fn(&mut v1::Snapshot)| {
            let mut message = v1::Snapshot::from(sample::training());
            spoil(&mut message);
            Snapshot::try_from(message).unwrap_err().to_string()
        };
        assert_eq!(refused(|m| m.evaluation = None), "bad evaluation: missing");
        assert_eq!(refused(|m| m.state = 0), "bad state: unspecified");
        assert_eq!(
            refused(|m| m.workers[0].state = 77),
            "bad state: unknown number 77"
        );
        assert!(refused(|m| m.runs[0].name = "../x".into()).starts_with("bad name of a run: "));
        assert!(refused(|m| m.runs[0].backbone = "mlp".into()).starts_with("bad backbone: "));
    }
}
