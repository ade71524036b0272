//! A worker's stream: its hello, then its heartbeats until the stream ends.

use std::fmt;

use quartet_proto::PROTOCOL_VERSION;
use quartet_proto::v1::{self, worker_message};
use quartet_shared::gpu::GpuUse;
use quartet_shared::ids::WorkerId;
use quartet_shared::label;
use quartet_shared::provenance::Provenance;
use quartet_shared::secret::Secret;
use quartet_shared::task::LeaseId;
use quartet_shared::wire::lease_and_progress;
use tonic::{Status, Streaming};

use super::refusal::bad;
use super::shell::Shell;
use crate::scheduler::WorkerInfo;

/// Reads a hello: who the worker is, and the lease that it still works under.
pub(super) fn read_hello(hello: v1::Hello) -> Result<(WorkerInfo, Option<LeaseId>), Status> {
    if hello.protocol_version != PROTOCOL_VERSION {
        return Err(Status::failed_precondition(format!(
            "the worker speaks protocol version {}, this coordinator version {PROTOCOL_VERSION}; \
             install the same version of Quartet on both",
            hello.protocol_version
        )));
    }
    let id: WorkerId = hello.worker_id.parse().map_err(bad)?;
    let secret = Secret::try_from(&hello.secret[..]).map_err(bad)?;
    let held: Option<LeaseId> = hello.held.map(TryInto::try_into).transpose().map_err(bad)?;
    if held.as_ref().is_some_and(|lease| lease.worker != id) {
        return Err(Status::invalid_argument(
            "a worker cannot hold the lease of another",
        ));
    }
    let label = |field: &str, text: String| match label::check(&text) {
        Ok(()) => Ok(text),
        Err(error) => Err(bad(format!("the worker's {field}: {error}"))),
    };
    let device = label("device", hello.device)?;
    let provenance = hello.provenance.unwrap_or_default();
    let provenance = Provenance::try_from(provenance)
        .map_err(|error| bad(format!("the worker's provenance: {error}")))?;
    // One that this version does not know is none that it asks for.
    let precisions = hello.precisions.iter();
    let precisions = precisions.filter_map(|named| named.parse().ok());
    let info = WorkerInfo {
        id,
        name: label("name", hello.name)?,
        secret: secret.hash(),
        provenance: Provenance {
            device: Some(device.clone()),
            ..provenance
        },
        device,
        stays: hello.stays,
        precisions: precisions.collect(),
    };
    Ok((info, held))
}

/// How a worker's stream has ended.
pub(super) enum StreamEnd {
    /// The worker closed it, as it does when it exits.
    Left,
    /// The coordinator has ended first.
    Closed,
    /// Something went wrong.
    Broken(String),
}

impl fmt::Display for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("it left"),
            Self::Closed => f.write_str("the coordinator has ended"),
            Self::Broken(reason) => f.write_str(reason),
        }
    }
}

/// Takes a worker's heartbeats until its stream ends; returns how it ended.
pub(super) async fn listen(
    shell: &Shell,
    worker: &WorkerId,
    messages: &mut Streaming<v1::WorkerMessage>,
) -> StreamEnd {
    let broken = |reason: String| StreamEnd::Broken(reason);
    loop {
        let heartbeat = match messages.message().await {
            Ok(Some(v1::WorkerMessage {
                message: Some(worker_message::Message::Heartbeat(heartbeat)),
            })) => heartbeat,
            Ok(Some(_)) => return broken("it sent something other than a heartbeat".into()),
            Ok(None) => return StreamEnd::Left,
            Err(status) => return broken(format!("connection lost: {}", status.message())),
        };
        let gpu = heartbeat.gpu.map(GpuUse::try_from).transpose();
        let progress = heartbeat.progress.map(lease_and_progress).transpose();
        let (progress, gpu) = match (progress, gpu) {
            (Ok(progress), Ok(gpu)) => (progress, gpu),
            (Err(error), _) | (_, Err(error)) => {
                return broken(format!("it sent a bad heartbeat: {error}"));
            }
        };
        let lease = progress.as_ref().map(|(lease, _)| lease.clone());
        let (back, reply) = shell.scheduler.note(|scheduler, now| {
            let back = progress.is_none() && scheduler.is_lost(worker);
            scheduler.note_gpu(worker, gpu);
            (back, scheduler.heartbeat(worker, progress, now))
        });
        if back {
            // It is free again, and may get a task.
            shell.scheduler.wake();
        }
        match reply {
            Ok(reply) => {
                if let (Some(lease), Some(refusal)) = (lease, reply.refused()) {
                    shell.connections.revoke(&lease, &refusal.to_string());
                }
            }
            Err(error) => return broken(error.to_string()),
        }
    }
}
