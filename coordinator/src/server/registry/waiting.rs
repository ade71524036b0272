//! Workers that wait for an experiment.

use quartet_shared::ids::WorkerId;
use quartet_shared::spec::Precision;
use tokio_util::sync::CancellationToken;

use super::{Attaching, Registry};

/// A worker that waits for an experiment.
pub(super) struct Waiter {
    name: String,
    pub(super) precisions: Vec<Precision>,
    /// How many of its calls wait.
    calls: u32,
    sent_home: CancellationToken,
}

impl Registry {
    /// Sends workers home that wait for an experiment: that of this id or name, or all. Returns their ids.
    pub(in crate::server) fn send_home(&self, worker: Option<&str>) -> Vec<WorkerId> {
        let inner = self.inner();
        let is_meant = |(id, waiter): &(&WorkerId, &Waiter)| {
            worker.is_none_or(|worker| id.as_str() == worker || waiter.name == worker)
        };
        let sent = inner.waiting.iter().filter(is_meant).map(|(id, waiter)| {
            waiter.sent_home.cancel();
            id.clone()
        });
        sent.collect()
    }
}

/// A call of a worker that waits for an experiment.
pub(super) struct Waiting<'a> {
    registry: &'a Registry,
    worker: WorkerId,
    pub(super) sent_home: CancellationToken,
}

impl<'a> Waiting<'a> {
    pub(super) fn begin(registry: &'a Registry, worker: &Attaching<'_>) -> Self {
        let mut inner = registry.inner();
        let waiter = inner.waiting.entry(worker.worker.clone());
        let waiter = waiter.or_insert_with(|| Waiter {
            name: worker.name.to_owned(),
            precisions: worker.precisions.to_vec(),
            calls: 0,
            sent_home: CancellationToken::new(),
        });
        waiter.calls += 1;
        let sent_home = waiter.sent_home.clone();
        drop(inner);
        registry.changed.notify_one();
        Self {
            registry,
            worker: worker.worker.clone(),
            sent_home,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut inner = self.registry.inner();
        if let Some(waiter) = inner.waiting.get_mut(&self.worker) {
            waiter.calls -= 1;
            if waiter.calls == 0 {
                inner.waiting.remove(&self.worker);
            }
        }
    }
}
