//! The shell around the scheduler: its clock, its lock, the workers' outboxes, and the driver that carries decisions out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use quartet_proto::v1;
use quartet_shared::human;
use quartet_shared::ids::WorkerId;
use quartet_shared::report::EvaluationReport;
use quartet_shared::task::LeaseId;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::grant;
use crate::experiment::Experiment;
use crate::scheduler::{Now, Scheduler};

/// Messages that wait for one worker's stream.
pub(super) type Outbox = mpsc::Sender<Result<v1::CoordinatorMessage, tonic::Status>>;

/// How many messages may wait for a worker; more means that its stream is dead.
pub(super) const OUTBOX_SIZE: usize = 16;

/// A step looks at every worker. With thousands of them it takes so long that the next one has to wait: heartbeats need the same lock.
const LONG_STEP: Duration = Duration::from_millis(1);

/// The stream that currently speaks for a worker.
struct Attached {
    /// Tells this stream from an older one of the same worker, whose end comes late.
    stream: u64,
    outbox: Outbox,
}

#[derive(Default)]
struct Streams {
    last: u64,
    attached: BTreeMap<WorkerId, Attached>,
}

/// Everything that the services and the driver share.
pub(super) struct Shell {
    pub(super) experiment: Experiment,
    scheduler: Mutex<Scheduler>,
    streams: Mutex<Streams>,
    started: Instant,
    wake: Notify,
    report: OnceLock<EvaluationReport>,
    /// Why this coordinator cannot go on.
    broken: Mutex<Option<anyhow::Error>>,
    /// Whether workers are sent away instead of getting tasks.
    stopping: CancellationToken,
    ended: CancellationToken,
    /// Whether workers are served no more. Who waits is woken in order, unlike by a watch channel: a simulation is to replay.
    closed: CancellationToken,
    version: watch::Sender<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shell {
    pub(super) fn new(experiment: Experiment, scheduler: Scheduler) -> Self {
        Self {
            experiment,
            scheduler: Mutex::new(scheduler),
            streams: Mutex::default(),
            started: Instant::now(),
            wake: Notify::new(),
            report: OnceLock::new(),
            broken: Mutex::new(None),
            stopping: CancellationToken::new(),
            ended: CancellationToken::new(),
            closed: CancellationToken::new(),
            version: watch::Sender::new(0),
        }
    }

    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Reads the scheduler.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Scheduler, Now) -> T) -> T {
        let now = Now(self.uptime());
        read(&lock(&self.scheduler), now)
    }

    /// Tells the scheduler a fact from which nothing follows but that a deadline is later: thousands of heartbeats a second
    /// must not wake the driver.
    pub(super) fn note<T>(&self, tell: impl FnOnce(&mut Scheduler, Now) -> T) -> T {
        let now = Now(self.uptime());
        let told = tell(&mut lock(&self.scheduler), now);
        self.version.send_modify(|version| *version += 1);
        told
    }

    /// Has the driver look at what follows from what the scheduler was told.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Tells the scheduler a fact, then has the driver carry out what follows from it.
    pub(super) fn tell<T>(&self, tell: impl FnOnce(&mut Scheduler, Now) -> T) -> T {
        let now = Now(self.uptime());
        let told = tell(&mut lock(&self.scheduler), now);
        self.wake.notify_one();
        self.version.send_modify(|version| *version += 1);
        told
    }

    /// The ensemble's evaluation, once there is one.
    pub(super) fn report(&self) -> Option<&EvaluationReport> {
        self.report.get()
    }

    pub(super) fn set_report(&self, report: EvaluationReport) {
        // A second one can only be the same: the store keeps the first.
        let _ = self.report.set(report);
    }

    /// This coordinator cannot go on; the first reason counts.
    pub(super) fn give_up(&self, error: anyhow::Error) {
        lock(&self.broken).get_or_insert(error);
        self.wake.notify_one();
    }

    /// Why this coordinator cannot go on.
    pub(super) fn take_broken(&self) -> Option<anyhow::Error> {
        lock(&self.broken).take()
    }

    /// Resolves when the experiment has ended.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Changes with every fact.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Makes a stream the one that speaks for a worker; returns its number.
    pub(super) fn attach(&self, worker: WorkerId, outbox: Outbox) -> u64 {
        let mut streams = lock(&self.streams);
        streams.last += 1;
        let stream = streams.last;
        streams.attached.insert(worker, Attached { stream, outbox });
        stream
    }

    /// A worker's stream has ended, because it `left` or otherwise. Nothing happens when a newer one speaks for the worker.
    pub(super) fn detach(&self, worker: &WorkerId, stream: u64, left: bool) {
        let mut streams = lock(&self.streams);
        if streams
            .attached
            .get(worker)
            .is_some_and(|attached| attached.stream == stream)
        {
            streams.attached.remove(worker);
            drop(streams);
            if self.ended.is_cancelled() {
                // It was sent home.
                self.version.send_modify(|version| *version += 1);
                return;
            }
            let holds = self.note(|scheduler, now| {
                match left {
                    true => scheduler.left(worker, now),
                    false => scheduler.disconnected(worker, now),
                }
                scheduler.holds_lease(worker)
            });
            if holds {
                // There is a new deadline. Nothing follows from it when an idle worker goes, as thousands may within a second.
                self.wake();
            }
        }
    }

    /// Puts a message into a worker's outbox. A worker whose outbox is full or gone will be noticed by its missing heartbeats.
    pub(super) fn send(&self, worker: &WorkerId, message: v1::coordinator_message::Message) {
        let streams = lock(&self.streams);
        let message = v1::CoordinatorMessage {
            message: Some(message),
        };
        let sent = streams
            .attached
            .get(worker)
            .is_some_and(|attached| attached.outbox.try_send(Ok(message)).is_ok());
        if !sent {
            tracing::debug!(%worker, "no stream takes the message");
        }
    }

    pub(super) fn revoke(&self, lease: &LeaseId, reason: &str) {
        let revocation = v1::Revocation {
            lease: Some(lease.clone().into()),
            reason: reason.to_owned(),
        };
        self.send(
            &lease.worker,
            v1::coordinator_message::Message::Revocation(revocation),
        );
    }

    /// Tells every worker to exit.
    pub(super) fn dismiss(&self, reason: &str) {
        let workers: Vec<WorkerId> = lock(&self.streams).attached.keys().cloned().collect();
        for worker in workers {
            let goodbye = v1::Goodbye {
                reason: reason.to_owned(),
            };
            self.send(&worker, v1::coordinator_message::Message::Goodbye(goodbye));
        }
    }

    /// Asks every worker, and those yet to come, to hand its task back and exit.
    pub(super) fn drain_all(&self, reason: &str) {
        self.stopping.cancel();
        let workers: Vec<WorkerId> = lock(&self.streams).attached.keys().cloned().collect();
        for worker in workers {
            self.drain(&worker, reason);
        }
    }

    /// Whether workers are sent away instead of getting tasks.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Asks a worker to hand its task back and exit; whether it is connected.
    pub(super) fn drain(&self, worker: &WorkerId, reason: &str) -> bool {
        let known = self.tell(|scheduler, _| scheduler.drain(worker).is_ok());
        let drain = v1::Drain {
            reason: reason.to_owned(),
        };
        self.send(worker, v1::coordinator_message::Message::Drain(drain));
        known
    }

    /// Ends every worker's stream: nothing that comes is taken any more.
    pub(super) fn close(&self) {
        self.closed.cancel();
        lock(&self.streams).attached.clear();
    }

    /// Resolves when workers are served no more.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Whether any worker's stream is open.
    pub(super) fn has_workers(&self) -> bool {
        !lock(&self.streams).attached.is_empty()
    }

    /// Carries out the scheduler's decisions until the experiment has ended, or this coordinator cannot go on.
    pub(super) async fn drive(self: &Arc<Self>) {
        loop {
            let started = Instant::now();
            let (ended, deadline) = self.step();
            let took = started.elapsed();
            if ended {
                self.ended.cancel();
                return;
            }
            if lock(&self.broken).is_some() {
                return;
            }
            if took >= LONG_STEP {
                tokio::time::sleep(took * 4).await;
            }
            let next_deadline = async {
                match deadline {
                    Some(Now(deadline)) => {
                        tokio::time::sleep_until(self.started + deadline).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = next_deadline => {}
            }
        }
    }

    fn step(self: &Arc<Self>) -> (bool, Option<Now>) {
        let now = Now(self.uptime());
        let (expired, stalls, assignments, ended, deadline) = {
            let mut scheduler = lock(&self.scheduler);
            let expired = scheduler.expire_leases(now);
            let stalls = scheduler.report_stalls(now);
            let assignments = match self.is_stopping() {
                true => Vec::new(),
                false => scheduler.assign(now),
            };
            let ended = scheduler.experiment_state().has_ended();
            (
                expired,
                stalls,
                assignments,
                ended,
                scheduler.next_deadline(),
            )
        };
        for expired in &expired {
            tracing::warn!(lease = %expired.lease, reason = %expired.reason, "lease ended");
            self.revoke(&expired.lease, &expired.reason.to_string());
        }
        for (lease, stalled) in &stalls {
            let stalled = human::duration(*stalled);
            tracing::warn!(%lease, %stalled, "no progress although the worker is heard of");
        }
        if !(expired.is_empty() && stalls.is_empty() && assignments.is_empty()) || ended {
            self.version.send_modify(|version| *version += 1);
        }
        for assignment in assignments {
            tokio::spawn(grant::grant(Arc::clone(self), assignment));
        }
        (ended, deadline)
    }
}
