//! What happened: attempts and events.

use quartet_history::{AttemptSummary, EpochSummary, ExperimentRecord};
use quartet_shared::clock::Timestamp;
use quartet_shared::event::{AttemptEnd, Event, resumed_after};
use quartet_shared::human;
use quartet_shared::label::MAX_LABEL;
use quartet_shared::task::Task;

use crate::sentence;
use crate::text::{clean, plural, reason};

/// Events that a report tells, the latest ones.
const EVENTS: usize = 200;

/// A task and its attempts.
pub(super) struct TaskRow {
    pub(super) task: String,
    pub(super) attempts: Vec<AttemptRow>,
}

/// An attempt.
pub(super) struct AttemptRow {
    pub(super) number: String,
    pub(super) worker: String,
    pub(super) began: String,
    pub(super) resumed: String,
    pub(super) lasted: String,
    pub(super) epochs: String,
    pub(super) speed: String,
    pub(super) end: &'static str,
    pub(super) why: String,
}

/// An event.
pub(super) struct EventRow {
    pub(super) at: String,
    pub(super) what: String,
    pub(super) is_bad: bool,
}

/// Every task with its attempts; tasks without any are left out.
pub(super) fn tasks(record: &ExperimentRecord) -> Vec<TaskRow> {
    let runs = record
        .runs
        .iter()
        .map(|run| (run.spec.name.to_string(), &run.attempts, &run.epochs[..]));
    let evaluation = (
        Task::Evaluate.to_string(),
        &record.evaluation_attempts,
        &[][..],
    );
    let tasks = runs.chain([evaluation]);
    tasks
        .filter(|(_, attempts, _)| !attempts.is_empty())
        .map(|(task, attempts, epochs)| TaskRow {
            task,
            attempts: attempts
                .iter()
                .map(|attempt| row(attempt, epochs))
                .collect(),
        })
        .collect()
}

fn row(attempt: &AttemptSummary, epochs: &[EpochSummary]) -> AttemptRow {
    let own = epochs
        .iter()
        .filter(|epoch| epoch.attempt == attempt.attempt);
    let speeds = own.map(|epoch| epoch.metrics.images_per_second);
    let speeds: Vec<f64> = speeds.filter(|speed| speed.is_finite()).collect();
    let result = attempt.result.as_ref();
    let end = match result.map(|result| result.how) {
        None => "no end is known",
        Some(None) => "done",
        Some(Some(AttemptEnd::Lost)) => "worker lost",
        Some(Some(AttemptEnd::Failed)) => "failed",
        Some(Some(AttemptEnd::Rejected)) => "rejected",
        Some(Some(AttemptEnd::HandedBack)) => "handed back",
    };
    let why = result.and_then(|result| result.reason.as_deref());
    let none = || "–".to_owned();
    AttemptRow {
        number: attempt.attempt.to_string(),
        worker: clean(&attempt.worker, MAX_LABEL),
        began: second(attempt.started_at),
        resumed: resumed_after(attempt.resume).unwrap_or_else(|| "from the start".to_owned()),
        lasted: result.map_or_else(none, |result| {
            human::duration(result.at.since(attempt.started_at))
        }),
        epochs: speeds.len().to_string(),
        speed: if speeds.is_empty() {
            none()
        } else {
            human::rate(speeds.iter().sum::<f64>() / speeds.len() as f64).replace(" img/s", "")
        },
        end,
        why: why.map_or_else(String::new, reason),
    }
}

/// The latest events in order, and a word on those that are left out.
pub(super) fn events(events: &[Event]) -> (Vec<EventRow>, String) {
    let earlier = events.len().saturating_sub(EVENTS);
    let rows = events[earlier..].iter().map(|event| EventRow {
        at: second(event.at),
        what: sentence::sentence(&event.what),
        is_bad: sentence::is_bad(&event.what),
    });
    let note = match earlier {
        0 => String::new(),
        earlier => format!(
            "{} before these {EVENTS} are left out.",
            plural(earlier as u64, "event")
        ),
    };
    (rows.collect(), note)
}

/// A time to the second, in UTC: `2026-11-26 21:18:55`.
pub(super) fn second(time: Timestamp) -> String {
    time.to_string()[..19].replace('T', " ")
}
