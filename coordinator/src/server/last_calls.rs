//! What the store is asked for when a coordinator ends: tried again for a moment, as one call may fail.

use std::time::Duration;

use crate::leadership::LeadershipError;

/// How long the store may take to record the end of a term.
pub(super) const LAST_CALLS: Duration = Duration::from_secs(2);
/// Wait after a failure.
pub(super) const LAST_PAUSE: Duration = Duration::from_millis(250);

/// Records that a term has ended. If that cannot be, people are told.
pub(super) async fn close_term<C>(close: impl Fn() -> C)
where
    C: Future<Output = Result<(), LeadershipError>>,
{
    let mut reason = "the store is too slow".to_owned();
    let closed = async {
        loop {
            match close().await {
                Err(LeadershipError::Store(error)) if !error.is_permanent() => {
                    reason = error.to_string();
                }
                ended => return ended,
            }
            tokio::time::sleep(LAST_PAUSE).await;
        }
    };
    match tokio::time::timeout(LAST_CALLS, closed).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => reason = error.to_string(),
        Err(_) => {}
    }
    tracing::warn!(reason, "cannot record that this term has ended");
}
