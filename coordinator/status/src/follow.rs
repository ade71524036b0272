//! `--follow`: watches an experiment until it has ended, whatever happens to the coordinator meanwhile.

use std::io::Write;
use std::time::Duration;

use quartet_shared::human;
use tokio::time::Instant;

use super::client::{Client, ClientError};
use super::options::Options;
use super::{Shown, StatusError, View, ended};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

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
}

impl Contact {
    fn made() -> Self {
        Self {
            last: Instant::now(),
            pause: FIRST_PAUSE,
            complained: false,
        }
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
}

/// Shows every snapshot until the experiment has ended.
pub(super) async fn follow<W: Write>(
    options: &Options,
    view: &mut View<W>,
    mut err: impl Write,
) -> Result<Shown, StatusError> {
    let mut contact = Contact::made();
    loop {
        let lost = match watch(options, view, &mut contact).await {
            Err(StatusError::Client(error)) if error.is_transient() => error,
            other => return other,
        };
        let Some(pause) = contact.next_pause(options.give_up_after) else {
            view.release();
            return Err(FollowError {
                after: options.give_up_after,
                last: lost,
            }
            .into());
        };
        if !contact.complained {
            contact.complained = true;
            view.release();
            if let ClientError::Unreachable { address, reason } = &lost {
                let patience = human::duration(options.give_up_after);
                // A closed stderr is no reason to stop.
                let _ = writeln!(
                    err,
                    "no contact with the coordinator at {address} ({reason}); trying again for {patience}"
                );
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Shows the snapshots of one connection.
async fn watch<W: Write>(
    options: &Options,
    view: &mut View<W>,
    contact: &mut Contact,
) -> Result<Shown, StatusError> {
    let mut watch = Client::connect(options).await?.watch().await?;
    loop {
        let snapshot = watch.next().await?;
        *contact = Contact::made();
        view.show(&snapshot)?;
        if let Some(shown) = ended(snapshot.state) {
            return Ok(shown);
        }
    }
}
