//! What the worker of an attempt has logged, from a coordinator or from a store.

use std::io::Write;
use std::time::Duration;

use quartet_history::{ExperimentRecord, Standing};
use quartet_shared::ids::Attempt;
use quartet_shared::label;
use quartet_shared::task::Task;
use quartet_store::layout::Layout;
use quartet_store::log::{joined, log_parts, read_log_part};

use super::StatusError;
use super::client::Client;
use super::options::Options;
use super::stored::{StoredError, locate};

/// How often a coordinator is asked for what is new.
const INTERVAL: Duration = Duration::from_secs(2);
/// The same of a store.
const STORE_INTERVAL: Duration = Duration::from_secs(5);

/// Which log.
#[derive(Clone, Debug)]
pub struct LogChoice {
    /// Of which task.
    pub task: Task,
    /// `None` for the newest attempt.
    pub attempt: Option<Attempt>,
    /// Whether to wait for what is new until the attempt has ended.
    pub follow: bool,
}

/// What is read at once.
struct Page {
    attempt: Attempt,
    parts: Vec<(u32, String)>,
    more: bool,
    ended: bool,
}

/// Prints the log of an attempt as its coordinator has it.
///
/// # Errors
/// The coordinator cannot be asked, there is no such task or attempt, or the output cannot be written.
pub async fn from_coordinator(
    options: &Options,
    choice: &LogChoice,
    out: impl Write,
    err: impl Write,
) -> Result<(), StatusError> {
    let mut client = Client::connect(options).await?;
    print(choice, INTERVAL, out, err, async |attempt, after| {
        let answer = client.read_log(&choice.task, attempt, after).await?;
        let parts = answer.parts.into_iter();
        Ok::<_, StatusError>(Page {
            attempt: Attempt(answer.attempt),
            parts: parts.map(|part| (part.number, part.text)).collect(),
            more: answer.more,
            ended: answer.ended,
        })
    })
    .await
}

/// Prints the log of an attempt as a store has it.
///
/// # Errors
/// The store cannot be read, there is no such task or attempt, or the output cannot be written.
pub async fn from_store(
    place: &str,
    choice: &LogChoice,
    out: impl Write,
    err: impl Write,
) -> Result<(), StoredError> {
    let (store, experiment) = locate(place).await?;
    let layout = Layout::new(experiment.clone());
    print(choice, STORE_INTERVAL, out, err, async |attempt, after| {
        // Before the parts are listed: of an attempt that has ended then, all are there.
        let record = quartet_history::read(&store, &experiment).await?;
        let (attempt, ended) = find(&record, &choice.task, attempt)?;
        let mut parts = Vec::new();
        for (number, _) in log_parts(&store, &layout, &choice.task, attempt).await? {
            if number > after
                && let Some(text) =
                    read_log_part(&store, &layout, &choice.task, attempt, number).await?
            {
                parts.push((number, text));
            }
        }
        Ok::<_, StoredError>(Page {
            attempt,
            parts,
            more: false,
            ended,
        })
    })
    .await
}

/// The attempt that is meant, and whether it has ended.
fn find(
    record: &ExperimentRecord,
    task: &Task,
    attempt: Option<Attempt>,
) -> Result<(Attempt, bool), StoredError> {
    let name = &record.spec.experiment.name;
    let attempts = match task {
        Task::Evaluate => &record.evaluation_attempts,
        Task::Train(run) => {
            let found = record.runs.iter().find(|one| one.spec.name == *run);
            let known = || {
                let names = record.runs.iter().map(|run| run.spec.name.as_str());
                names.collect::<Vec<_>>().join(", ")
            };
            let run = found.ok_or_else(|| {
                StoredError::NoSuch(format!(
                    "{name} has no run {run}; it has {}, and evaluation",
                    known()
                ))
            })?;
            &run.attempts
        }
    };
    let newest = attempts
        .last()
        .ok_or_else(|| StoredError::NoSuch(format!("nobody has begun {task} of {name} yet")))?;
    let meant = match attempt {
        None => newest,
        Some(attempt) => attempts
            .iter()
            .find(|one| one.attempt == attempt)
            .ok_or_else(|| {
                StoredError::NoSuch(format!(
                    "{task} has no attempt {attempt}; the newest is {}",
                    newest.attempt
                ))
            })?,
    };
    let ended = meant.result.is_some()
        || meant.attempt < newest.attempt
        || record.standing() != Standing::Unfinished;
    Ok((meant.attempt, ended))
}

/// Prints what `read` gives for an attempt, after a part.
async fn print<E: From<std::io::Error>>(
    choice: &LogChoice,
    interval: Duration,
    mut out: impl Write,
    mut err: impl Write,
    mut read: impl AsyncFnMut(Option<Attempt>, u32) -> Result<Page, E>,
) -> Result<(), E> {
    let (mut attempt, mut last) = (choice.attempt, 0);
    loop {
        let page = read(attempt, last).await?;
        attempt = Some(page.attempt);
        let text;
        (text, last) = joined(page.parts, last);
        out.write_all(label::lines(&text).as_bytes())?;
        out.flush()?;
        if page.more {
            continue;
        }
        if page.ended || !choice.follow {
            if last == 0 {
                // A closed stderr is no reason to fail.
                let _ = writeln!(
                    err,
                    "attempt {} at {} has no log: its worker has sent nothing{}",
                    page.attempt,
                    choice.task,
                    if page.ended { "" } else { " yet" }
                );
            }
            return Ok(());
        }
        tokio::time::sleep(interval).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(follow: bool) -> LogChoice {
        LogChoice {
            task: Task::Evaluate,
            attempt: None,
            follow,
        }
    }

    fn page(parts: &[(u32, &str)], ended: bool) -> Page {
        Page {
            attempt: Attempt(3),
            parts: parts
                .iter()
                .map(|(n, text)| (*n, (*text).to_owned()))
                .collect(),
            more: false,
            ended,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_is_followed_to_its_end() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut pages = vec![
            page(&[(9, "d\n")], true),
            page(&[], false),
            page(&[(1, "a\x1b[2J\n"), (2, "b\tc\n")], false),
        ];
        let mut asked = Vec::new();
        let read = async |attempt, after| {
            asked.push((attempt, after));
            Ok::<_, std::io::Error>(pages.pop().unwrap())
        };
        print(&choice(true), INTERVAL, &mut out, &mut err, read)
            .await
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "a[2J\nb\tc\n... the middle of this log was not kept ...\nd\n"
        );
        assert_eq!(
            asked,
            [(None, 0), (Some(Attempt(3)), 2), (Some(Attempt(3)), 2)]
        );
        assert!(err.is_empty());
    }

    #[tokio::test]
    async fn a_log_that_is_not_there_is_said() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let read = async |_, _| Ok::<_, std::io::Error>(page(&[], false));
        print(&choice(false), INTERVAL, &mut out, &mut err, read)
            .await
            .unwrap();
        assert!(out.is_empty());
        let remark = String::from_utf8(err).unwrap();
        assert_eq!(
            remark,
            "attempt 3 at evaluation has no log: its worker has sent nothing yet\n"
        );
    }
}
