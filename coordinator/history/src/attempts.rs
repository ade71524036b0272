//! Attempts at a task: from their records, and from events, which say how they ended.

use quartet_shared::clock::Timestamp;
use quartet_shared::event::{Event, Occurrence};
use quartet_shared::ids::{Attempt, Term};
use quartet_shared::provenance::Provenance;
use quartet_store::manifest::AttemptRecord;

use crate::record::{AttemptResult, AttemptSummary};

/// The attempts that these records tell of, in order.
pub(crate) fn recorded(records: Vec<AttemptRecord>) -> Vec<AttemptSummary> {
    let summary = |record: AttemptRecord| AttemptSummary {
        attempt: record.attempt,
        worker: record.name,
        term: record.term,
        started_at: Timestamp::from_seconds(record.granted_at),
        resume: record.resume,
        result: None,
        provenance: record.provenance,
    };
    let mut attempts: Vec<_> = records.into_iter().map(summary).collect();
    attempts.sort_by_key(|attempt| attempt.attempt);
    attempts
}

/// Adds what an event says of the attempts at its task.
pub(crate) fn happened(attempts: &mut Vec<AttemptSummary>, event: &Event, term: Term) {
    let at = event.at;
    match &event.what {
        Occurrence::AttemptStarted {
            attempt,
            worker,
            resume,
            ..
        } => {
            match find(attempts, *attempt) {
                // To the millisecond instead of the second.
                Ok(index) => {
                    attempts[index].started_at = at;
                    // With its number, if several workers have the name.
                    attempts[index].worker.clone_from(&worker.name);
                }
                Err(index) => attempts.insert(
                    index,
                    AttemptSummary {
                        attempt: *attempt,
                        worker: worker.name.clone(),
                        term,
                        started_at: at,
                        resume: *resume,
                        result: None,
                        provenance: Provenance::default(),
                    },
                ),
            }
        }
        Occurrence::AttemptEnded {
            attempt,
            how,
            reason,
            ..
        } => {
            let (how, reason) = (Some(*how), reason.clone());
            end(attempts, *attempt, AttemptResult { at, how, reason });
        }
        Occurrence::RunFinished { attempt, .. } | Occurrence::Evaluated { attempt } => {
            let (how, reason) = (None, None);
            end(attempts, *attempt, AttemptResult { at, how, reason });
        }
        _ => {}
    }
}

fn find(attempts: &[AttemptSummary], attempt: Attempt) -> Result<usize, usize> {
    attempts.binary_search_by_key(&attempt, |summary| summary.attempt)
}

fn end(attempts: &mut [AttemptSummary], attempt: Attempt, result: AttemptResult) {
    if let Ok(index) = find(attempts, attempt) {
        // What comes later is only that a coordinator takes what its predecessor granted for ended.
        attempts[index].result.get_or_insert(result);
    }
}
