//! What a process has logged, kept in memory until someone takes it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait to be taken; beyond, the oldest lines are dropped.
const MOST_WAITING: usize = 256 << 10;

/// Bytes of a line; what is longer is cut.
const LONGEST_LINE: usize = 8 << 10;

/// The lines that a process logs. Clones are the same tap.
#[derive(Clone, Debug, Default)]
pub struct LogTap(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<String>,
    bytes: usize,
    dropped: u64,
}

impl LogTap {
    /// Forgets what has been logged so far.
    pub fn clear(&self) {
        *self.lock() = Waiting::default();
    }

    /// Bytes that nobody has taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().bytes
    }

    /// The oldest whole lines that nobody has taken, at most so many bytes, and at least one line if there is
    /// any.
    #[must_use]
    pub fn take(&self, limit: usize) -> Option<String> {
        let mut waiting = self.lock();
        let mut text = match std::mem::take(&mut waiting.dropped) {
            0 => String::new(),
            1 => "... a line is missing here\n".to_owned(),
            lines => format!("... {lines} lines are missing here\n"),
        };
        while let Some(line) = waiting.lines.front() {
            if !text.is_empty() && text.len() + line.len() > limit {
                break;
            }
            waiting.bytes -= line.len();
            text += &waiting.lines.pop_front().unwrap_or_default();
        }
        Some(text).filter(|text| !text.is_empty())
    }

    fn add(&self, line: &str) {
        let mut line = line.trim_end_matches('\n').to_owned();
        line.truncate(line.floor_char_boundary(LONGEST_LINE));
        line.push('\n');
        let mut waiting = self.lock();
        waiting.bytes += line.len();
        waiting.lines.push_back(line);
        while waiting.bytes > MOST_WAITING
            && let Some(oldest) = waiting.lines.pop_front()
        {
            waiting.bytes -= oldest.len();
            waiting.dropped += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl io::Write for LogTap {
    /// Takes a whole line: the formatter writes each event at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogTap {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_whole_and_once() {
        let tap = LogTap::default();
        for line in ["one\n", "two\n", "three\n"] {
            tap.add(line);
        }
        assert_eq!(tap.take(9).as_deref(), Some("one\ntwo\n"));
        assert_eq!(tap.take(1).as_deref(), Some("three\n"));
        assert_eq!(tap.take(1), None);
        tap.add("four\n");
        tap.clear();
        assert_eq!(tap.take(9), None);
    }

    #[test]
    fn what_nobody_takes_is_bounded_and_counted() {
        let tap = LogTap::default();
        let line = format!("{}\n", "ü".repeat(LONGEST_LINE));
        for _ in 0..40 {
            tap.add(&line);
        }
        let text = tap.take(usize::MAX).unwrap();
        assert!(text.len() <= MOST_WAITING + 64, "{}", text.len());
        let kept = text.lines().count() - 1;
        let first = format!("... {} lines are missing here", 40 - kept);
        assert_eq!(text.lines().next(), Some(&first[..]));
        assert!(text.lines().skip(1).all(|line| line.len() == LONGEST_LINE));
        tap.add("next\n");
        assert_eq!(tap.take(9).as_deref(), Some("next\n"));
    }
}
