//! Conversions between the queue and the protocol's messages.

use std::time::Duration;

use quartet_proto::v1;
use quartet_shared::clock::Timestamp;
use quartet_shared::wire::WireError;

use super::{OpenExperiment, QueueEntry, QueueState, QueueStatus};

impl From<QueueState> for v1::QueueState {
    fn from(state: QueueState) -> Self {
        match state {
            QueueState::Waiting => Self::Waiting,
            QueueState::Open => Self::Open,
            QueueState::Finished => Self::Finished,
            QueueState::Failed => Self::Failed,
            QueueState::Cancelled => Self::Cancelled,
        }
    }
}

fn state(number: i32) -> Result<QueueState, WireError> {
    let unknown = WireError::Enum {
        field: "state",
        value: number,
    };
    match v1::QueueState::try_from(number) {
        Ok(v1::QueueState::Waiting) => Ok(QueueState::Waiting),
        Ok(v1::QueueState::Open) => Ok(QueueState::Open),
        Ok(v1::QueueState::Finished) => Ok(QueueState::Finished),
        Ok(v1::QueueState::Failed) => Ok(QueueState::Failed),
        Ok(v1::QueueState::Cancelled) => Ok(QueueState::Cancelled),
        Ok(v1::QueueState::Unspecified) | Err(_) => Err(unknown),
    }
}

impl From<OpenExperiment> for v1::OpenExperiment {
    fn from(open: OpenExperiment) -> Self {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            state: v1::ExperimentState::from(open.state).into(),
            runs: count(open.runs),
            runs_ended: count(open.runs_ended),
            workers: count(open.workers),
            eta_ms: open.eta.map(millis),
        }
    }
}

impl TryFrom<v1::OpenExperiment> for OpenExperiment {
    type Error = WireError;

    fn try_from(open: v1::OpenExperiment) -> Result<Self, WireError> {
        Ok(Self {
            state: open.state().try_into()?,
            runs: open.runs as usize,
            runs_ended: open.runs_ended as usize,
            workers: open.workers as usize,
            eta: open.eta_ms.map(Duration::from_millis),
        })
    }
}

impl From<QueueEntry> for v1::QueueEntry {
    fn from(entry: QueueEntry) -> Self {
        Self {
            experiment: entry.experiment.to_string(),
            state: v1::QueueState::from(entry.state).into(),
            priority: entry.priority,
            submitted_at: entry.submitted_at.map_or(0, |at| at.0),
            submitted_by: entry.submitted_by.unwrap_or_default(),
            ended_at: entry.ended_at.map(|at| at.0),
            reason: entry.reason.unwrap_or_default(),
            open: entry.open.map(Into::into),
        }
    }
}

impl TryFrom<v1::QueueEntry> for QueueEntry {
    type Error = WireError;

    fn try_from(entry: v1::QueueEntry) -> Result<Self, WireError> {
        let text = |text: String| (!text.is_empty()).then_some(text);
        let name = entry.experiment.parse();
        Ok(Self {
            experiment: name.map_err(|error| WireError::Name {
                field: "experiment",
                error,
            })?,
            state: state(entry.state)?,
            priority: entry.priority,
            submitted_at: (entry.submitted_at > 0).then(|| Timestamp::at(entry.submitted_at)),
            submitted_by: text(entry.submitted_by),
            ended_at: entry.ended_at.map(Timestamp::at),
            reason: text(entry.reason),
            open: entry.open.map(TryInto::try_into).transpose()?,
        })
    }
}

impl TryFrom<v1::GetQueueResponse> for QueueStatus {
    type Error = WireError;

    fn try_from(queue: v1::GetQueueResponse) -> Result<Self, WireError> {
        let entries = queue.entries.into_iter().map(TryInto::try_into);
        Ok(Self {
            entries: entries.collect::<Result<_, _>>()?,
            is_open: queue.term > 0,
            waiting_workers: queue.waiting_workers,
        })
    }
}
