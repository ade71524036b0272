//! The messages of a worker that uploads, and how long the coordinator waits for them: a lease is pinned as
//! long as a commit lasts.

use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::time::Instant;
use tonic::Status;

/// Longest wait for the next message.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes a second of the slowest link over which an upload succeeds.
const SLOWEST_LINK: u64 = 64 << 10;

/// What an upload may take beyond the time that its bytes need on the slowest link.
const ALLOWANCE: Duration = Duration::from_secs(60);

/// The messages of a worker that uploads. The time that all of them together may take follows from the size
/// that the upload has. Only waiting counts: that the store is slow is not the worker's fault.
pub(in crate::server) struct Sender<S> {
    messages: S,
    left: Duration,
}

impl<S, T> Sender<S>
where
    S: Stream<Item = Result<T, Status>> + Unpin,
{
    /// A sender whose first message, a header, says how much follows.
    pub(in crate::server) fn new(messages: S) -> Self {
        Self {
            messages,
            left: ALLOWANCE,
        }
    }

    /// So many bytes are to come.
    pub(in crate::server) fn expect(&mut self, bytes: u64) {
        self.left = ALLOWANCE + Duration::from_secs(bytes / SLOWEST_LINK);
    }

    /// The next message; `None` after the last.
    pub(in crate::server) async fn next(&mut self) -> Result<Option<T>, Status> {
        let started = Instant::now();
        let limit = MESSAGE_TIMEOUT.min(self.left);
        let message = tokio::time::timeout(limit, self.messages.next()).await;
        self.left = self.left.saturating_sub(started.elapsed());
        match message {
            Ok(message) => message.transpose(),
            Err(_) if self.left.is_zero() => Err(Status::deadline_exceeded(format!(
                "the upload is slower than {} KiB/s, the slowest link that is supported",
                SLOWEST_LINK >> 10
            ))),
            Err(_) => Err(Status::deadline_exceeded("the upload stands still")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    /// A sender of messages of so many bytes, one in every `pause`.
    fn sender(
        size: u64,
        pause: Duration,
    ) -> Sender<impl Stream<Item = Result<u64, Status>> + Unpin> {
        let messages = futures::stream::repeat(()).then(move |()| async move {
            tokio::time::sleep(pause).await;
            Ok(size)
        });
        Sender::new(Box::pin(messages))
    }

    /// Receives so many bytes. Returns how long that took.
    async fn receive<S>(mut sender: Sender<S>, bytes: u64) -> Result<Duration, (Status, Duration)>
    where
        S: Stream<Item = Result<u64, Status>> + Unpin,
    {
        let started = Instant::now();
        sender.expect(bytes);
        let mut received = 0;
        while received < bytes {
            match sender.next().await {
                Ok(message) => received += message.unwrap_or_default(),
                Err(status) => return Err((status, started.elapsed())),
            }
        }
        Ok(started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_link_is_waited_for() {
        let size = 256 << 20;
        // 128 KiB/s.
        let took = receive(sender(1 << 20, Duration::from_secs(8)), size).await;
        assert_eq!(took.unwrap(), Duration::from_secs(2048));
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_does_not_last_for_ever() {
        let size = 64 << 20;
        let trickle = receive(sender(1, Duration::from_secs(29)), size).await;
        let (status, took) = trickle.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(status.message().contains("64 KiB/s"), "{status}");
        assert_eq!(took, Duration::from_secs(60 + 1024));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed_sooner() {
        let silent = receive(sender(1 << 20, Duration::from_secs(31)), 64 << 20).await;
        let (status, took) = silent.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(status.message().contains("stands still"), "{status}");
        assert_eq!(took, MESSAGE_TIMEOUT);
    }
}
