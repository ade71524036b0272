//! The request to stop, from a signal or from within.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A signal that comes within this time after the first is the same request: `timeout`, for one, signals the
/// process and its group.
pub const REPETITION: Duration = Duration::from_secs(1);

/// A request to stop that many tasks can wait for. Clones share it; once triggered it stays so.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    requested: CancellationToken,
}

impl Shutdown {
    /// A request that only [`Self::trigger`] makes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A request that the first SIGTERM or SIGINT makes. A second one, if it comes later than
    /// [`REPETITION`], ends the process at once, with the exit code that shells give to a process killed by
    /// it: 143 or 130. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let this = shutdown.clone();
        tokio::spawn(async move {
            let name = either(&mut terminate, &mut interrupt).await.0;
            tracing::info!(signal = name, "stopping; a second signal stops at once");
            this.trigger();
            let first = Instant::now();
            let (name, code) = loop {
                let next = either(&mut terminate, &mut interrupt).await;
                if first.elapsed() >= REPETITION {
                    break next;
                }
            };
            tracing::warn!(signal = name, "stopped at once");
            std::process::exit(code);
        });
        Ok(shutdown)
    }

    /// Makes the request; does nothing where it has been made.
    pub fn trigger(&self) {
        self.requested.cancel();
    }

    /// Whether the request has been made.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.requested.is_cancelled()
    }

    /// Waits for the request; returns at once where it has been made. Can be dropped at any point.
    pub async fn triggered(&self) {
        self.requested.cancelled().await;
    }
}

/// Name and exit code of the next signal.
async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> (&'static str, i32) {
    tokio::select! {
        _ = terminate.recv() => ("SIGTERM", 143),
        _ = interrupt.recv() => ("SIGINT", 130),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn all_clones_hear_of_it_once_and_for_all() {
        let shutdown = Shutdown::new();
        let clone = shutdown.clone();
        let waiting = tokio::spawn(async move { clone.triggered().await });
        tokio::task::yield_now().await;
        assert!(!shutdown.is_triggered() && !waiting.is_finished());
        shutdown.trigger();
        shutdown.trigger();
        waiting.await.unwrap();
        shutdown.triggered().await;
        assert!(shutdown.is_triggered());
    }

    const CHILD: &str = "QUARTET_TEST_SHUTDOWN_CHILD";

    fn send_to_self(signal: &str) {
        let command = format!("kill -{signal} {}", std::process::id());
        assert!(
            Command::new("sh")
                .args(["-c", &command])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Not a test of its own: the process that `the_second_signal_ends_the_process` starts.
    #[tokio::test]
    async fn child_of_the_test_below() {
        let Ok(signals) = std::env::var(CHILD) else {
            return;
        };
        let (first, second) = signals.split_once(' ').unwrap();
        let shutdown = Shutdown::on_signals().unwrap();
        send_to_self(first);
        let triggered = Instant::now();
        shutdown.triggered().await;
        // The same request.
        send_to_self(first);
        send_to_self(second);
        tokio::time::sleep(REPETITION).await;
        writeln!(io::stdout(), "still here").unwrap();
        assert!(triggered.elapsed() >= REPETITION);
        send_to_self(second);
        tokio::time::sleep(Duration::from_secs(20)).await;
    }

    #[test]
    fn the_second_signal_ends_the_process() {
        for (signals, code) in [("INT TERM", 143), ("TERM INT", 130)] {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "shutdown::tests::child_of_the_test_below"])
                .arg("--nocapture")
                .env(CHILD, signals)
                .stderr(Stdio::null())
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(code), "{signals}");
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains("still here"), "{text}");
        }
    }
}
