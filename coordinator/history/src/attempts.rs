//! What records and events say of attempts.

use quartet_shared::clock::Timestamp;
use quartet_shared::event::{Event, Occurrence};
use quartet_shared::ids::Attempt;
use quartet_shared::task::Task;
use quartet_store::manifest::AttemptRecord;

use crate::record::{AttemptResult, AttemptSummary};

/// The attempts at a task: from their records, which are all there, and from events, which say how they ended
/// and may be missing.
pub(crate) fn attempts(
    task: &Task,
    records: Vec<AttemptRecord>,
    events: &[Event],
) -> Vec<AttemptSummary> {
    let mut attempts: Vec<AttemptSummary> = records
        .into_iter()
        .map(|record| AttemptSummary {
            attempt: record.attempt,
            worker: record.name,
            term: record.term,
            started_at: Timestamp::from_seconds(record.granted_at),
            resume: record.resume,
            result: None,
        })
        .collect();
    attempts.sort_by_key(|attempt| attempt.attempt);
    let at = |number: Attempt| move |attempt: &AttemptSummary| attempt.attempt.cmp(&number);
    let about_it = events
        .iter()
        .filter(|event| event.what.task().as_ref() == Some(task));
    for Event { at: time, what } in about_it {
        let (number, result) = match what {
            Occurrence::AttemptStarted { attempt, .. } => (*attempt, None),
            Occurrence::AttemptEnded {
                attempt,
                how,
                reason,
                ..
            } => (*attempt, Some((Some(*how), reason.clone()))),
            Occurrence::RunFinished { attempt, .. } | Occurrence::Evaluated { attempt } => {
                (*attempt, Some((None, None)))
            }
            _ => continue,
        };
        let Ok(index) = attempts.binary_search_by(at(number)) else {
            continue;
        };
        match result {
            // To the millisecond instead of the second.
            None => attempts[index].started_at = *time,
            Some((how, reason)) => {
                let at = *time;
                attempts[index].result = Some(AttemptResult { at, how, reason });
            }
        }
    }
    attempts
}
