//! How far a download is, for people: one line that is drawn anew, or a line every few seconds in a log.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use quartet_shared::human;
use quartet_shared::ids::RunName;

use quartet_shared::terminal::{Console, Mode, fitted};

/// Least time between two lines of a log.
const LOG_INTERVAL: Duration = Duration::from_secs(5);
/// Least time between two drawings on a terminal.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

/// Bytes of a download.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    /// That were there when the attempt began.
    pub(super) kept: u64,
    /// That are there.
    pub(super) done: u64,
    /// Of the whole file; 0 while it is not known.
    pub(super) total: u64,
}

/// Shows downloads, one after the other. A closed output is no error: the work goes on.
#[derive(Debug)]
pub struct DownloadProgress {
    console: Console,
    label: String,
    shown: Option<Instant>,
}

impl DownloadProgress {
    /// On a console.
    #[must_use]
    pub fn on(console: Console) -> Self {
        Self {
            console,
            label: String::new(),
            shown: None,
        }
    }

    /// On any writer.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>, mode: Mode) -> Self {
        Self::on(Console::new(mode, out, io::sink()))
    }

    /// What is shown next: the weights of these runs, from `origin`.
    pub(super) fn begin(&mut self, runs: &[RunName], origin: &str) {
        let names: Vec<&str> = runs.iter().map(RunName::as_str).collect();
        let s = if runs.len() == 1 { "" } else { "s" };
        self.label = format!("weights of run{s} {}: {origin}", names.join(", "));
        self.shown = None;
    }

    /// Shows how far it is, unless that was shown a moment before `now`.
    pub(super) fn show(&mut self, amount: Amount, now: Instant) {
        let interval = match self.console.mode() {
            Mode::Redraw(_) => DRAW_INTERVAL,
            Mode::Lines => LOG_INTERVAL,
        };
        let is_early = |shown: Instant| now.saturating_duration_since(shown) < interval;
        if amount.total == 0 || self.shown.is_some_and(is_early) {
            return;
        }
        self.shown = Some(now);
        let (done, total) = (human::size(amount.done), human::size(amount.total));
        let line = format!("{}, {done} of {total}", self.label);
        match self.console.mode() {
            Mode::Redraw(size) => {
                self.console.draw(&fitted(&line, size().columns.into()));
            }
            Mode::Lines => drop(self.console.say(&line)),
        }
    }

    /// Says something about it that stays.
    pub(super) fn note(&mut self, text: &str) {
        self.end();
        let _ = self.console.say(&format!("{}: {text}", self.label));
    }

    /// Shows no download any more.
    pub(super) fn end(&mut self) {
        self.console.clear();
    }
}

impl Drop for DownloadProgress {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use quartet_shared::terminal::Size;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written when a download of 553 MB is seen at these milliseconds, and has a hitch at its end.
    fn written(mode: Mode, milliseconds: &[u64]) -> String {
        let out = Written::default();
        let mut progress = DownloadProgress::new(Box::new(out.clone()), mode);
        progress.begin(&["vgg16".parse().unwrap()], "timm/vgg16.tv_in1k");
        let began = Instant::now();
        for &at in milliseconds {
            let amount = Amount {
                kept: 0,
                done: at * 100_000,
                total: 553_000_000,
            };
            progress.show(amount, began + Duration::from_millis(at));
        }
        progress.note("a hitch");
        drop(progress);
        String::from_utf8(out.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_log_grows_by_a_line_every_few_seconds() {
        let log = written(Mode::Lines, &[0, 1000, 4999, 5000, 5100]);
        let lines = log.lines().map(|line| {
            let (_time, line) = line.split_once(' ').unwrap();
            format!("{line}\n")
        });
        assert_eq!(
            lines.collect::<String>(),
            "weights of run vgg16: timm/vgg16.tv_in1k, 0 B of 553 MB\n\
             weights of run vgg16: timm/vgg16.tv_in1k, 500 MB of 553 MB\n\
             weights of run vgg16: timm/vgg16.tv_in1k: a hitch\n"
        );
    }

    #[test]
    fn a_terminal_has_one_line_that_fits() {
        let narrow = || Size {
            columns: 30,
            rows: 5,
        };
        assert_eq!(
            written(Mode::Redraw(narrow), &[0, 100, 300]),
            "weights of run vgg16: timm/vg…\r\n\
             \x1b[1A\r\x1b[J\r\x1b[2Kweights of run vgg16: timm/vg…\r\n\
             \x1b[1A\r\x1b[J\r\x1b[2K\
             weights of run vgg16: timm/vgg16.tv_in1k: a hitch\n"
        );
    }
}
