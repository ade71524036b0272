//! The table of the workers.

use std::collections::HashSet;
use std::time::Duration;

use quartet_shared::gpu::GpuUse;
use quartet_shared::human;
use quartet_shared::label::one_line;
use quartet_shared::terminal::columns as width_of;

use super::columns::Column;
use crate::snapshot::{Snapshot, WorkerState, WorkerStatus};

/// `not connected`.
const STATE: usize = 13;
/// `100 %, 141.2 of 143.8 GiB, 63 °C`.
const GPU: usize = 32;
/// The column's title.
const AT_THE_END: usize = 10;
/// `59 min 59 s ago`.
const HEARTBEAT: usize = 15;
/// How long a lost worker is shown of which the fleet has no need.
const LOST_SHOWN: Duration = Duration::from_secs(60);

/// The workers worth a row: those that are there or may come back, and lost ones for a while, or while the
/// fleet is too small. One whose name another one took is not shown. In the order of their names.
pub(super) fn shown(snapshot: &Snapshot) -> Vec<&WorkerStatus> {
    let is_small = snapshot.workers_present() < snapshot.workers_expected as usize;
    let present = snapshot.workers.iter().filter(|worker| worker.is_present());
    let names: HashSet<&str> = present.map(|worker| worker.name.as_str()).collect();
    let is_shown = |worker: &&WorkerStatus| match worker.state {
        _ if snapshot.state.has_ended() => worker.is_present(),
        _ if worker.is_present() => true,
        _ if names.contains(worker.name.as_str()) => false,
        WorkerState::Lost => {
            !snapshot.stopping && (is_small || worker.since_heartbeat < LOST_SHOWN)
        }
        _ => true,
    };
    let mut shown: Vec<_> = snapshot.workers.iter().filter(is_shown).collect();
    shown.sort_by(|one, other| one.name.cmp(&other.name));
    shown
}

pub(super) fn columns(snapshot: &Snapshot) -> Vec<Column<WorkerStatus>> {
    let longest = |text: fn(&WorkerStatus) -> &str| {
        let workers = snapshot.workers.iter();
        workers
            .map(|worker| width_of(text(worker)))
            .max()
            .unwrap_or(0)
    };
    let runs = snapshot.runs.iter().map(|run| width_of(run.name.as_str()));
    let task = runs.chain(["evaluation".len()]).max().unwrap_or(0);
    let mut columns: Vec<Column<WorkerStatus>> = vec![
        Column::name("worker", 0, longest(|worker| &worker.name), |worker| {
            one_line(&worker.name).into()
        }),
        Column::name("device", 2, longest(|worker| &worker.device), |worker| {
            one_line(&worker.device).into()
        }),
        Column::text("state", 0, STATE, |worker| state(worker).to_owned()),
        Column::name("task", 1, task, |worker| {
            let task = worker.task.as_ref();
            task.map_or_else(String::new, ToString::to_string)
        }),
    ];
    if snapshot.workers.iter().any(|worker| worker.gpu.is_some()) {
        columns.push(Column::text("GPU", 3, GPU, |worker| {
            worker.gpu.map_or_else(String::new, gpu)
        }));
    }
    columns.push(Column::number("last heartbeat", 4, HEARTBEAT, |worker| {
        format!("{} ago", human::duration(worker.since_heartbeat))
    }));
    if snapshot.workers.iter().any(|worker| worker.stays) {
        columns.push(Column::text("at the end", 5, AT_THE_END, |worker| {
            if worker.stays { "stays" } else { "leaves" }.to_owned()
        }));
    }
    columns
}

/// The state of a worker in words.
#[must_use]
pub fn state(worker: &WorkerStatus) -> &'static str {
    match worker.state {
        WorkerState::Lost => WorkerState::Lost.as_str(),
        _ if !worker.connected => "not connected",
        state => state.as_str(),
    }
}

/// Which workers are shown first where not all fit.
pub(super) fn urgency(worker: &WorkerStatus) -> u8 {
    match worker.state {
        _ if !worker.connected => 1,
        WorkerState::Busy => 0,
        WorkerState::Lost => 2,
        WorkerState::Quarantined => 3,
        WorkerState::Draining => 4,
        WorkerState::Idle => 5,
    }
}

/// `87 %, 41.2 of 79.6 GiB, 63 °C`.
#[must_use]
pub fn gpu(gpu: GpuUse) -> String {
    let gibibytes = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let busy = gpu.busy_percent.map(|percent| format!("{percent} %"));
    let (used, total) = (gibibytes(gpu.memory_used), gibibytes(gpu.memory_total));
    let memory = Some(format!("{used:.1} of {total:.1} GiB"));
    let temperature = gpu.temperature.map(|degrees| format!("{degrees} °C"));
    let known: Vec<_> = [busy, memory, temperature].into_iter().flatten().collect();
    known.join(", ")
}
