//! Logs of attempts: what workers send of them is put into the store, the first and the last parts of each.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use quartet_proto::v1;
use quartet_shared::ids::Attempt;
use quartet_shared::label;
use quartet_shared::task::{LeaseId, Task};
use quartet_store::StoreError;
use quartet_store::log::{MAX_LOG_PART, log_parts, newest_attempt, read_log_part};
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tonic::Status;

use super::refusal::{bad, refused, store_failed};
use super::shell::Shell;
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
    /// Parts that are to be deleted.
    old: Vec<u32>,
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
    /// Adds a part, for which others may become old.
    fn add(&mut self, number: u32, size: usize) {
        // After a gap the first half has been full.
        let is_next = number == self.newest + 1;
        self.newest = number;
        if self.last.parts.is_empty() && is_next && self.first.has_room(size) {
            return self.first.add(number, size);
        }
        while !self.last.has_room(size)
            && let Some((number, size)) = self.last.parts.pop_front()
        {
            self.last.bytes -= size;
            self.old.push(number);
        }
        self.last.add(number, size);
    }

    /// What an earlier coordinator has kept.
    async fn read(experiment: &Experiment, lease: &LeaseId) -> Result<Self, StoreError> {
        let Experiment { store, layout, .. } = experiment;
        let mut kept = Self::default();
        for (number, size) in log_parts(store, layout, &lease.task, lease.attempt).await? {
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

    /// Waits until what was being written of an attempt's log is written.
    async fn settled(&self, task: &Task, attempt: Attempt) {
        let parts = {
            let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = tasks.get(task).filter(|(newest, _)| *newest == attempt);
            newest.map(|(_, parts)| Arc::clone(parts))
        };
        if let Some(parts) = parts {
            drop(parts.lock().await);
        }
    }
}

/// What a worker sends, and the turn to write it.
pub(super) struct Turn {
    lease: LeaseId,
    number: u32,
    text: String,
    kept: OwnedMutexGuard<Option<Kept>>,
}

/// Waits until a part of the log of an attempt that lasts can be written. Dropped, it is forgotten.
pub(super) async fn begin(
    shell: &Shell,
    lease: LeaseId,
    number: u32,
    text: &str,
) -> Result<Turn, Status> {
    if text.is_empty() || text.len() > MAX_LOG_PART {
        let found = text.len();
        return Err(bad(format!(
            "a part of a log has 1 to {MAX_LOG_PART} bytes, not {found}"
        )));
    }
    let check = || shell.scheduler.read(|s, _| s.check_lease(&lease));
    check().map_err(refused)?;
    let kept = shell.logs.parts(&lease).lock_owned().await;
    check().map_err(refused)?;
    Ok(Turn {
        number,
        text: label::lines(text),
        kept,
        lease,
    })
}

/// Keeps a part of a log. That it cannot is no failure of anything else.
pub(super) async fn keep(shell: &Shell, turn: Turn) -> Result<(), Status> {
    let Turn {
        lease,
        number,
        text,
        mut kept,
    } = turn;
    let Experiment { store, layout, .. } = &shell.experiment;
    let kept = match &mut *kept {
        Some(kept) => kept,
        none => none.insert(
            Kept::read(&shell.experiment, &lease)
                .await
                .map_err(|e| failed(&e))?,
        ),
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
    let key = |number| layout.log_part(&lease.task, lease.attempt, number);
    let created = store.create(&key(number), text.into()).await;
    created.map_err(|e| failed(&e))?;
    kept.add(number, size);
    while let Some(old) = kept.old.last() {
        if let Err(error) = store.delete(&key(*old)).await {
            tracing::warn!(%lease, %error, "could not delete the middle of a log; the next part tries again");
            break;
        }
        kept.old.pop();
    }
    Ok(())
}

/// A failure of the store, which fails nothing but this call.
fn failed(error: &StoreError) -> Status {
    tracing::warn!(%error, "the store does not keep or give a log");
    store_failed(error)
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
    let newest = newest_attempt(store, layout, task).await;
    let newest = newest
        .map_err(|e| failed(&e))?
        .ok_or_else(|| Status::not_found(format!("nobody has begun {task} yet")))?;
    let attempt = attempt.unwrap_or(newest);
    if attempt > newest {
        return Err(Status::not_found(format!(
            "{task} has no attempt {attempt}; the newest is {newest}"
        )));
    }
    let ended = attempt < newest
        || !shell
            .scheduler
            .read(|scheduler, _| scheduler.is_leased(task));
    if ended {
        // What came before the end may still be on its way into the store.
        shell.logs.settled(task, attempt).await;
    }
    let parts = log_parts(store, layout, task, attempt).await;
    let parts = parts.map_err(|e| failed(&e))?;
    let mut next = parts.into_iter().filter(|(number, _)| *number > after);
    let mut parts = Vec::new();
    for (number, _) in next.by_ref().take(PARTS_AT_ONCE) {
        let text = read_log_part(store, layout, task, attempt, number).await;
        // A part may have been deleted meanwhile.
        if let Some(text) = text.map_err(|e| failed(&e))? {
            parts.push(v1::LogPart { number, text });
        }
    }
    Ok(v1::ReadLogResponse {
        attempt: attempt.0,
        more: !parts.is_empty() && next.next().is_some(),
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
            (1..=sent).for_each(|number| kept.add(number, size));
            let first = u32::try_from(parts).unwrap();
            assert_eq!(kept.old, (first + 1..=sent - first).collect::<Vec<_>>());
            assert_eq!(
                (kept.first.parts.len(), kept.last.parts.len()),
                (parts, parts)
            );
            assert!(kept.first.bytes + kept.last.bytes <= 1 << 20);
            assert_eq!(kept.newest, sent);

            // A coordinator that comes later finds the same halves.
            let mut again = Kept::default();
            let there = kept.first.parts.iter().chain(&kept.last.parts);
            there.for_each(|(number, size)| again.add(*number, *size));
            assert_eq!(again.first.parts, kept.first.parts);
            assert_eq!(again.last.parts, kept.last.parts);
            assert!(again.old.is_empty(), "{:?}", again.old);
        }
    }
}
