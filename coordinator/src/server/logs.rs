//! Logs of attempts: what workers send of them is put into the store, the first and the last parts of each.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use quartet_proto::v1;
use quartet_shared::ids::Attempt;
use quartet_shared::task::{LeaseId, Task};
use quartet_store::log::{MAX_LOG_PART, log_parts, newest_attempt, read_log_part};
use quartet_store::{Creation, StoreError};
use tokio::sync::Semaphore;
use tonic::Status;

use super::refusal::{bad, refused};
use super::shell::Shell;
use super::store_trouble::Proof;
use crate::experiment::Experiment;

/// Bytes of each half of a log: its first parts, which stay, and its last ones.
const HALF: usize = 512 << 10;

/// Parts of each half.
const HALF_PARTS: usize = 256;

/// The number of the last part that an attempt may send.
const LAST_PART: u32 = 999_999;

/// Logs that are read at a time.
const READERS: usize = 4;

/// Parts in an answer to a reader.
const PARTS_AT_ONCE: usize = 8;

/// The newest attempt of each task that has sent something.
pub(super) struct Logs {
    tasks: Mutex<HashMap<Task, (Attempt, Parts)>>,
    readers: Semaphore,
}

/// The parts of a log; nothing before they are read.
type Parts = Arc<tokio::sync::Mutex<Option<Kept>>>;

/// Which parts of a log are in the store.
#[derive(Debug, Default)]
struct Kept {
    newest: u32,
    first: Half,
    last: Half,
}

#[derive(Debug, Default)]
struct Half {
    /// Number and size of each part.
    parts: VecDeque<(u32, usize)>,
    bytes: usize,
}

impl Half {
    fn has_room(&self, size: usize) -> bool {
        self.bytes + size <= HALF && self.parts.len() < HALF_PARTS
    }

    fn add(&mut self, number: u32, size: usize) {
        self.parts.push_back((number, size));
        self.bytes += size;
    }
}

impl Kept {
    /// Adds a part; the numbers of those that are to be deleted for it.
    fn add(&mut self, number: u32, size: usize) -> Vec<u32> {
        self.newest = number;
        if self.last.parts.is_empty() && self.first.has_room(size) {
            self.first.add(number, size);
            return Vec::new();
        }
        let mut old = Vec::new();
        while !self.last.has_room(size)
            && let Some((number, size)) = self.last.parts.pop_front()
        {
            self.last.bytes -= size;
            old.push(number);
        }
        self.last.add(number, size);
        old
    }

    /// What an earlier coordinator has kept.
    async fn read(experiment: &Experiment, lease: &LeaseId) -> Result<Self, StoreError> {
        let Experiment { store, layout, .. } = experiment;
        let mut kept = Self::default();
        for number in log_parts(store, layout, &lease.task, lease.attempt).await? {
            let key = layout.log_part(&lease.task, lease.attempt, number);
            let size = store.size(&key).await?;
            kept.add(number, usize::try_from(size).unwrap_or(HALF));
        }
        Ok(kept)
    }
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            tasks: Mutex::default(),
            readers: Semaphore::new(READERS),
        }
    }
}

impl Logs {
    /// The parts of an attempt's log. Those of an earlier attempt are forgotten.
    fn parts(&self, lease: &LeaseId) -> Parts {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let (attempt, parts) = tasks
            .entry(lease.task.clone())
            .or_insert_with(|| (lease.attempt, Parts::default()));
        if *attempt < lease.attempt {
            (*attempt, *parts) = (lease.attempt, Parts::default());
        }
        Arc::clone(parts)
    }
}

/// Keeps a part of the log of an attempt that lasts.
pub(super) async fn keep(
    shell: &Shell,
    lease: &LeaseId,
    number: u32,
    text: String,
) -> Result<(), Status> {
    if text.is_empty() || text.len() > MAX_LOG_PART {
        let found = text.len();
        return Err(bad(format!(
            "a part of a log has 1 to {MAX_LOG_PART} bytes, not {found}"
        )));
    }
    let check = || shell.scheduler.read(|s, _| s.check_lease(lease));
    check().map_err(refused)?;
    let parts = shell.logs.parts(lease);
    let mut kept = parts.lock().await;
    check().map_err(refused)?;
    let failed = |error| shell.store_failed(error);
    let experiment = &shell.experiment;
    let kept = match &mut *kept {
        Some(kept) => kept,
        none => none.insert(Kept::read(experiment, lease).await.map_err(failed)?),
    };
    if number <= kept.newest {
        // The answer to an earlier call was lost.
        return Ok(());
    }
    if number != kept.newest + 1 {
        return Err(bad(format!(
            "part {number} of a log of {} parts",
            kept.newest
        )));
    }
    if number > LAST_PART {
        return Err(Status::out_of_range("this log has too many parts"));
    }
    let size = text.len();
    let (task, attempt) = (&lease.task, lease.attempt);
    let key = |number| experiment.layout.log_part(task, attempt, number);
    let created = experiment.store.create(&key(number), text.into()).await;
    if created.map_err(failed)? == Creation::Created {
        shell.store_works(Proof::Write);
    }
    for old in kept.add(number, size) {
        experiment.store.delete(&key(old)).await.map_err(failed)?;
    }
    Ok(())
}

/// The next parts of a log, for someone who watches.
pub(super) async fn read(
    shell: &Shell,
    task: &Task,
    attempt: Option<Attempt>,
    after: u32,
) -> Result<v1::ReadLogResponse, Status> {
    let Experiment { store, layout, .. } = &shell.experiment;
    if let Task::Train(run) = task
        && shell.experiment.spec.experiment.run(run).is_none()
    {
        return Err(Status::not_found(format!("there is no run {run}")));
    }
    // The semaphore is never closed.
    let _turn = shell.logs.readers.acquire().await;
    let failed = |error| shell.store_failed(error);
    let newest = newest_attempt(store, layout, task).await.map_err(failed)?;
    let newest = newest.ok_or_else(|| Status::not_found(format!("nobody has begun {task} yet")))?;
    let attempt = attempt.unwrap_or(newest);
    if attempt > newest {
        return Err(Status::not_found(format!(
            "{task} has no attempt {attempt}; the newest is {newest}"
        )));
    }
    // Asked before the parts are listed: of an attempt that has ended then, all are there.
    let ended = attempt < newest
        || !shell
            .scheduler
            .read(|scheduler, _| scheduler.is_leased(task));
    let numbers = log_parts(store, layout, task, attempt)
        .await
        .map_err(failed)?;
    let mut next = numbers.into_iter().filter(|number| *number > after);
    let mut parts = Vec::new();
    for number in next.by_ref().take(PARTS_AT_ONCE) {
        let text = read_log_part(store, layout, task, attempt, number).await;
        // A part may have been deleted meanwhile.
        if let Some(text) = text.map_err(failed)? {
            parts.push(v1::LogPart { number, text });
        }
    }
    Ok(v1::ReadLogResponse {
        attempt: attempt.0,
        more: next.next().is_some(),
        parts,
        ended,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_parts_are_kept() {
        for (size, parts) in [(MAX_LOG_PART, 8), (100, HALF_PARTS)] {
            let mut kept = Kept::default();
            let sent = 5 * u32::try_from(parts).unwrap();
            let old: Vec<u32> = (1..=sent).flat_map(|n| kept.add(n, size)).collect();
            let first = u32::try_from(parts).unwrap();
            assert_eq!(old, (first + 1..=sent - first).collect::<Vec<_>>());
            assert_eq!(
                (kept.first.parts.len(), kept.last.parts.len()),
                (parts, parts)
            );
            assert!(kept.first.bytes + kept.last.bytes <= 1 << 20);
            assert_eq!(kept.newest, sent);
        }
    }
}
