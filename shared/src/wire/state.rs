//! The states of experiments, tasks and workers.

use quartet_proto::v1;

use super::WireError;
use crate::state::{ExperimentState, TaskState, WorkerState};

macro_rules! states {
    ($type:ident: $($variant:ident),+) => {
        impl From<$type> for v1::$type {
            fn from(state: $type) -> Self {
                match state { $($type::$variant => Self::$variant),+ }
            }
        }

        impl TryFrom<v1::$type> for $type {
            type Error = WireError;

            fn try_from(state: v1::$type) -> Result<Self, WireError> {
                match state {
                    $(v1::$type::$variant => Ok(Self::$variant),)+
                    v1::$type::Unspecified => {
                        Err(WireError::Enum { field: "state", value: 0 })
                    }
                }
            }
        }
    };
}

states!(ExperimentState: Waiting, Training, Evaluating, Finished, Failed);
states!(TaskState: Blocked, Pending, Leased, Finished, Failed);
states!(WorkerState: Idle, Busy, Draining, Lost, Quarantined);
