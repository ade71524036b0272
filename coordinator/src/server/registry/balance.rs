//! Workers that have nothing to do go where they are wanted.

use std::sync::Arc;

use quartet_shared::ids::WorkerId;
use quartet_shared::spec::Precision;
use tokio::time::Instant;

use super::{ON_ITS_WAY, Registry, computes};
use crate::scheduler::Reserve;
use crate::server::shell::Shell;

impl Registry {
    /// Sends workers that have nothing to do to experiments that want more, and has later experiments leave
    /// workers to earlier ones. Returns in which precisions those compute for whom nothing that is open has
    /// anything to do, one entry for each: others could be opened for them.
    pub(in crate::server) fn balance(&self) -> Vec<Vec<Precision>> {
        let mut inner = self.inner();
        let now = Instant::now();
        inner
            .on_their_way
            .retain(|_, (_, sent)| now.duration_since(*sent) < ON_ITS_WAY);
        let open = inner.open.iter().map(|open| Arc::clone(&open.shell));
        let open: Vec<_> = open.filter(|shell| !shell.is_over()).collect();
        let mut spares = spares(&open);
        let mut sent = Vec::new();
        let mut unserved: Vec<(usize, usize)> = Vec::new();
        for (index, shell) in open.iter().enumerate() {
            let mut wanted = inner.wanted_by(shell);
            while wanted > 0 {
                // One that has something to do goes to an earlier experiment alone.
                let fits = |spare: &Spare| {
                    (spare.is_idle || spare.of > index) && computes(&spare.can, shell.precision())
                };
                let Some(at) = spares.iter().position(fits) else {
                    break;
                };
                let spare = spares.remove(at);
                let experiment = shell.experiment.id.clone();
                inner
                    .on_their_way
                    .insert(spare.worker.clone(), (experiment, now));
                sent.push((Arc::clone(&open[spare.of]), spare.worker));
                wanted -= 1;
            }
            if wanted > 0 {
                unserved.push((index, wanted));
            }
        }
        reserve(&open, &unserved);
        let is_wanted = |can: &Vec<Precision>| {
            let mut unserved = unserved.iter();
            unserved.any(|(index, _)| computes(can, open[*index].precision()))
        };
        let spares = spares.into_iter().filter(|spare| spare.is_idle);
        let waiting = inner
            .waiting
            .values()
            .map(|waiter| waiter.precisions.clone());
        let left = spares.map(|spare| spare.can).chain(waiting);
        let left = left.filter(|can| !is_wanted(can)).collect();
        drop(inner);
        for (from, worker) in sent {
            tracing::info!(%worker, experiment = %from.name(), "sent on to another experiment");
            from.send_on(&worker);
        }
        self.opened.notify_waiters();
        left
    }
}

/// A worker that may be sent on.
struct Spare {
    /// The place of its experiment.
    of: usize,
    worker: WorkerId,
    can: Vec<Precision>,
    /// Whether its experiment has nothing for it.
    is_idle: bool,
}

/// The workers that hold no lease and stay, those of the last experiment first.
fn spares(open: &[Arc<Shell>]) -> Vec<Spare> {
    let of_shell = |(of, shell): (usize, &Arc<Shell>)| {
        let (movable, is_idle) = shell
            .scheduler
            .read(|s, now| (s.movable(), s.ready_tasks(now).is_empty()));
        movable.into_iter().map(move |(worker, can)| Spare {
            of,
            worker,
            can,
            is_idle,
        })
    };
    open.iter().enumerate().rev().flat_map(of_shell).collect()
}

/// Has later experiments leave as many workers without a task as earlier ones want: each will be sent on when
/// its present task has ended.
fn reserve(open: &[Arc<Shell>], unserved: &[(usize, usize)]) {
    let mut wanted: Vec<_> = unserved.to_vec();
    for (place, shell) in open.iter().enumerate().rev() {
        let mut kept: Option<Reserve> = None;
        for (index, left) in &mut wanted {
            let precision = open[*index].precision();
            let is_same = kept.is_none_or(|kept| kept.precision == precision);
            if *index >= place || *left == 0 || !is_same {
                continue;
            }
            let workers = shell.scheduler.read(|s, _| s.at_work(precision));
            let taken = kept.map_or(0, |kept| kept.workers);
            let more = workers.saturating_sub(taken).min(*left);
            *left -= more;
            kept = Some(Reserve {
                workers: taken + more,
                precision,
            });
        }
        shell.reserve(kept.filter(|kept| kept.workers > 0));
    }
}
