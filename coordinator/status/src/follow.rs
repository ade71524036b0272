//! `--follow`: watches an experiment until it has ended, whatever happens to the coordinator meanwhile.

use std::time::Duration;

use quartet_shared::human;
use quartet_shared::terminal::Console;
use tokio::time::Instant;

use super::client::{Client, ClientError};
use super::options::Options;
use super::queue::QueueState;
use super::snapshot::Snapshot;
use super::{Shown, StatusError, View, ended};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often times are shown anew although nothing has changed.
const TICK: Duration = Duration::from_secs(1);

/// The coordinator was out of reach for too long.
#[derive(Debug, thiserror::Error)]
#[error("gave up after {} without contact: {last}", human::duration(*.after))]
pub struct FollowError {
    after: Duration,
    last: ClientError,
}

/// How long contact has been missing, and what that means.
struct Contact {
    last: Instant,
    pause: Duration,
    complained: bool,
    /// What was shown last.
    seen: Option<Snapshot>,
}

impl Contact {
    fn none() -> Self {
        Self {
            last: Instant::now(),
            pause: FIRST_PAUSE,
            complained: false,
            seen: None,
        }
    }

    /// A snapshot has come.
    fn made(&mut self, snapshot: Snapshot, console: &Console) {
        if self.complained {
            console.remark("contact with the coordinator again");
        }
        *self = Self {
            seen: Some(snapshot),
            ..Self::none()
        };
    }

    /// The pause before the next attempt, or `None` when it is time to give up.
    fn next_pause(&mut self, give_up_after: Duration) -> Option<Duration> {
        let left = give_up_after
            .checked_sub(self.last.elapsed())
            .filter(|left| !left.is_zero())?;
        let pause = self.pause.min(left);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }

    /// Says once what has happened to the coordinator.
    fn complain(&mut self, lost: &ClientError, patience: Duration, console: &Console) {
        if std::mem::replace(&mut self.complained, true) {
            return;
        }
        let patience = human::duration(patience);
        let (address, reason) = match lost {
            ClientError::Unreachable { address, reason } => (address, reason),
            ClientError::Idle { .. } => {
                return console.remark(&format!("{lost}; waiting"));
            }
            _ => return,
        };
        console.remark(&match self.has_stopped() {
            true => format!(
                "the coordinator at {address} has stopped; waiting for {patience} until it is started again"
            ),
            false => format!(
                "no contact with the coordinator at {address} ({reason}); trying again for {patience}"
            ),
        });
    }

    /// Whether it was about to stop when it was last heard of.
    fn has_stopped(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.stopping)
    }

    /// What was shown last, and for how long it has not been true.
    fn outdated(&self) -> Option<(&Snapshot, String)> {
        let seen = self.seen.as_ref()?;
        let what = match self.has_stopped() {
            true => "the coordinator stopped",
            false => "no contact with the coordinator since",
        };
        let since = human::duration(self.last.elapsed());
        Some((seen, format!("as it was {since} ago: {what}")))
    }
}

/// Shows every snapshot until the experiment has ended.
pub(super) async fn follow(
    options: &Options,
    view: &mut View,
    console: &Console,
) -> Result<Shown, StatusError> {
    let mut contact = Contact::none();
    loop {
        let lost = match watch(options, view, console, &mut contact).await {
            Err(StatusError::Client(error)) if error.is_transient() => error,
            // It ended while nobody looked.
            Err(StatusError::Client(error @ ClientError::Over { how, .. })) => {
                console.remark(&error.to_string());
                return Ok(match how {
                    QueueState::Finished => Shown::Done,
                    _ => Shown::Failed,
                });
            }
            other => return other,
        };
        if matches!(lost, ClientError::Idle { .. }) {
            // It answers: the experiment may wait for days.
            contact.last = Instant::now();
        }
        let Some(pause) = contact.next_pause(options.give_up_after) else {
            return Err(FollowError {
                after: options.give_up_after,
                last: lost,
            }
            .into());
        };
        contact.complain(&lost, options.give_up_after, console);
        if let Some((seen, remark)) = contact.outdated() {
            view.draw(seen, Some(&remark));
        }
        tokio::time::sleep(pause).await;
    }
}

/// Shows the snapshots of one connection.
async fn watch(
    options: &Options,
    view: &mut View,
    console: &Console,
    contact: &mut Contact,
) -> Result<Shown, StatusError> {
    let mut watch = Client::connect(options).await?.watch().await?;
    loop {
        let next = watch.next();
        tokio::pin!(next);
        let snapshot = loop {
            match tokio::time::timeout(TICK, &mut next).await {
                Ok(snapshot) => break snapshot?,
                Err(_) => {
                    if let Some(seen) = &contact.seen {
                        view.draw(&seen.later(contact.last.elapsed()), None);
                    }
                }
            }
        };
        contact.made(snapshot.clone(), console);
        view.show(&snapshot)?;
        if let Some(shown) = ended(snapshot.state) {
            return Ok(shown);
        }
    }
}
