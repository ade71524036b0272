//! The log of the task at hand, on its way to the coordinator. Nothing fails because of it, and nothing but
//! the end of the task waits for it.

use std::convert::Infallible;
use std::time::Duration;

use quartet_proto::v1;
use quartet_shared::telemetry::LogTap;
use tokio::sync::Mutex;
use tokio::time::MissedTickBehavior;
use tonic::{Code, Status};

use super::calls::{limited, root_cause};
use super::context::Context;
use super::coordinators::CALL_TIMEOUT;
use crate::executor::Stop;

/// How often what is new is sent.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long the end of a task waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(3);

/// The same where the worker is to leave, and has to hand its task back in time.
const LAST_LINES_OF_DRAINED: Duration = Duration::from_secs(1);

/// Bytes of a part: the store keeps no longer ones.
const PART: usize = 60 << 10;

/// The log of a task.
#[derive(Debug)]
pub(super) struct TaskLog {
    tap: LogTap,
    unsent: Mutex<Unsent>,
}

/// The part that is sent next.
#[derive(Debug)]
struct Unsent {
    number: u32,
    /// The same until the coordinator has it.
    text: Option<String>,
    /// The coordinator keeps no more.
    closed: bool,
}

impl TaskLog {
    pub(super) fn new(tap: LogTap) -> Self {
        Self {
            tap,
            unsent: Mutex::new(Unsent {
                number: 1,
                text: None,
                closed: false,
            }),
        }
    }

    /// Begins with what is logged from now on.
    pub(super) fn begin(&self) {
        self.tap.clear();
    }

    /// Sends what there is.
    async fn send(&self, context: &Context) -> Result<(), Status> {
        let mut unsent = self.unsent.lock().await;
        // What comes meanwhile is for the next time.
        let mut left = self.tap.waiting();
        loop {
            if unsent.text.is_none() && left > 0 {
                unsent.text = self.tap.take(PART);
                left = left.saturating_sub(unsent.text.as_ref().map_or(left, String::len));
            }
            let Some(text) = unsent.text.clone().filter(|_| !unsent.closed) else {
                return Ok(());
            };
            let request = v1::KeepLogRequest {
                lease: Some(context.assignment.lease.clone().into()),
                secret: context.calls.secret().into(),
                number: unsent.number,
                text,
            };
            let mut client = context.calls.client();
            match client.keep_log(limited(request, CALL_TIMEOUT)).await {
                Ok(_) => {
                    unsent.text = None;
                    unsent.number += 1;
                }
                Err(status) => {
                    unsent.closed = is_final(&status);
                    return Err(status);
                }
            }
        }
    }
}

/// Whether the coordinator will not take the next part either.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::FailedPrecondition
            | Code::OutOfRange
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
    )
}

/// Sends what is new every now and then, for ever.
pub(super) async fn send_regularly(context: &Context) -> Infallible {
    let Some(log) = &context.log else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(status) = log.send(context).await {
            tracing::debug!(reason = %root_cause(&status), "the coordinator does not take the log");
        }
    }
}

/// Sends the last lines, if the coordinator takes them in time.
pub(super) async fn send_rest(context: &Context) {
    let Some(log) = &context.log else { return };
    let limit = match context.control.stop() {
        Some(_) => LAST_LINES_OF_DRAINED,
        None => LAST_LINES,
    };
    let sent = tokio::select! {
        biased;
        sent = tokio::time::timeout(limit, log.send(context)) => sent,
        () = context.control.stopped(Stop::Drop) => return,
    };
    if let Ok(Err(status)) = sent {
        tracing::debug!(reason = %root_cause(&status), "the coordinator does not take the end of the log");
    }
}
