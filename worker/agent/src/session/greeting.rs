//! The first message of either side.

use std::time::Duration;

use quartet_proto::PROTOCOL_VERSION;
use quartet_proto::v1::{self, worker_message};
use quartet_shared::ids::{ExperimentId, ExperimentName, InvalidName};
use quartet_shared::label;
use quartet_shared::spec::Precision;

use super::Session;
use crate::session_error::SessionError;

impl Session {
    /// What the worker says of itself.
    pub(super) fn hello(&self) -> v1::WorkerMessage {
        let precisions = Precision::ALL.into_iter();
        let precisions = precisions.filter(|p| self.executor.check_precision(*p).is_ok());
        let hello = v1::Hello {
            protocol_version: PROTOCOL_VERSION,
            worker_id: self.id.to_string(),
            name: self.name.clone(),
            device: label::of(&self.executor.description()),
            held: self.task.held().map(|task| task.lease().clone().into()),
            term: self.term,
            secret: self.secret.bytes().into(),
            provenance: Some(self.executor.provenance().into()),
            stays: self.stays,
            experiment_id: self
                .experiment
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            precisions: precisions.map(|p| p.to_string()).collect(),
        };
        v1::WorkerMessage {
            message: Some(worker_message::Message::Hello(hello)),
        }
    }

    /// Takes in what the coordinator says of the experiment.
    ///
    /// # Errors
    /// When the worker cannot work for this coordinator, now or at all.
    pub(super) fn welcomed(&mut self, welcome: v1::Welcome) -> Result<(), SessionError> {
        let v1::Welcome {
            experiment,
            term,
            precision,
            experiment_id,
            ..
        } = welcome;
        let refused = |e: InvalidName| SessionError::Refused(e.to_string());
        let id: ExperimentId = experiment_id.parse().map_err(refused)?;
        // Terms of different experiments say nothing of each other.
        if self.experiment.as_ref() == Some(&id) && term < self.term {
            let newer = self.term;
            let reason = format!("its term is {term}, and there is a coordinator of term {newer}");
            return Err(SessionError::lost(reason, false));
        }
        let experiment: ExperimentName = experiment.parse().map_err(refused)?;
        let precision: Precision = precision
            .parse()
            .map_err(|e| SessionError::Refused(format!("its precision: {e}")))?;
        self.executor
            .check_precision(precision)
            .map_err(SessionError::Unsupported)?;
        self.experiment = Some(id);
        self.term = term;
        tracing::info!(%experiment, term, worker = %self.id, "attached to the coordinator");
        let every = Duration::from_millis(welcome.checkpoint_interval_ms.into());
        self.checkpoint_interval = (!every.is_zero()).then_some(every);
        Ok(())
    }
}
