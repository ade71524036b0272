//! Logs of attempts: what their workers have said, in numbered parts, of which the first and the last ones
//! are kept.

use futures::TryStreamExt;
use quartet_shared::ids::Attempt;
use quartet_shared::task::Task;

use crate::layout::Layout;
use crate::{Store, StoreError};

/// Bytes of a part of a log.
pub const MAX_LOG_PART: usize = 64 << 10;

/// The newest attempt at a task that is recorded.
///
/// # Errors
/// The store fails.
pub async fn newest_attempt(
    store: &Store,
    layout: &Layout,
    task: &Task,
) -> Result<Option<Attempt>, StoreError> {
    let newest = store.newest(&layout.attempts(task)).await?;
    Ok(newest.and_then(|key| number(&key, ".json")).map(Attempt))
}

/// The parts of an attempt's log that there are: their numbers in order, and their sizes in bytes.
///
/// # Errors
/// The store fails.
pub async fn log_parts(
    store: &Store,
    layout: &Layout,
    task: &Task,
    attempt: Attempt,
) -> Result<Vec<(u32, u64)>, StoreError> {
    let objects = store.list_sizes(&layout.log(task, attempt)).await?;
    let parts = objects.into_iter().filter_map(|(key, size)| {
        let number = number(&key, ".log")?;
        // Other objects are nobody's.
        (layout.log_part(task, attempt, number) == key).then_some((number, size))
    });
    let mut parts: Vec<(u32, u64)> = parts.collect();
    parts.sort_unstable();
    Ok(parts)
}

/// A part of an attempt's log, `None` if it is not kept. Whatever is no UTF-8 is replaced.
///
/// # Errors
/// The store fails.
pub async fn read_log_part(
    store: &Store,
    layout: &Layout,
    task: &Task,
    attempt: Attempt,
    number: u32,
) -> Result<Option<String>, StoreError> {
    let chunks = match store.read(&layout.log_part(task, attempt, number)).await {
        Ok(chunks) => chunks,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let read = chunks.try_fold(Vec::new(), |mut bytes, chunk| {
        // A part that somebody else has written may be of any size.
        let room = MAX_LOG_PART.saturating_sub(bytes.len()).min(chunk.len());
        bytes.extend_from_slice(&chunk[..room]);
        std::future::ready(Ok(bytes))
    });
    Ok(Some(String::from_utf8_lossy(&read.await?).into_owned()))
}

/// The text of parts that come after part `last`, and says where parts are missing; the last one's number.
#[must_use]
pub fn joined(parts: impl IntoIterator<Item = (u32, String)>, last: u32) -> (String, u32) {
    let begin = (String::new(), last);
    parts
        .into_iter()
        .fold(begin, |(text, last), (number, part)| {
            let gap = match number == last + 1 {
                true => "",
                false => "... the middle of this log was not kept ...\n",
            };
            (text + gap + &part, number)
        })
}

/// The number that an object's name is.
fn number(key: &str, suffix: &str) -> Option<u32> {
    let name = key.rsplit('/').next()?.strip_suffix(suffix)?;
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| name.parse().ok()).flatten()
}
