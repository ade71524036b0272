//! Where a program writes for people.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

use super::Mode;
use super::canvas::Canvas;
use crate::clock::Timestamp;

/// Variables of terminals that break rows anew when they become narrower. In others a drawing may leave rows
/// behind then, which is better than to clear what is not its own.
const REWRAPPING: [&str; 8] = [
    "ALACRITTY_WINDOW_ID",
    "ITERM_SESSION_ID",
    "KITTY_WINDOW_ID",
    "KONSOLE_VERSION",
    "TERM_PROGRAM",
    "TMUX",
    "VTE_VERSION",
    "WT_SESSION",
];

/// One of the two streams.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<dyn Write + Send>>);

impl Output {
    fn new(stream: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stream.write_all(bytes)?;
        stream.flush()
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

/// Stdout and stderr of a program: lines that stay and, on a terminal, a drawing below them that is replaced
/// in place. Whatever is written through the console leaves the drawing whole.
///
/// A clone writes to the same streams. Dropping the last one leaves the drawing where it is.
#[derive(Clone, Debug)]
pub struct Console {
    streams: Arc<Streams>,
}

#[derive(Debug)]
struct Streams {
    mode: Mode,
    out: Output,
    err: Output,
    /// Whether stderr is the terminal on which stdout draws.
    shares_stderr: bool,
    /// Whether the terminal breaks rows anew when it becomes narrower.
    rewraps: bool,
    drawing: Mutex<Option<ProgressBar>>,
}

impl Console {
    /// The streams of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let mode = Mode::of_stdout();
        let shares_stderr = matches!(mode, Mode::Redraw(_)) && io::stderr().is_terminal();
        let rewraps = REWRAPPING
            .iter()
            .any(|name| std::env::var_os(name).is_some());
        Self::with(mode, io::stdout(), io::stderr(), shares_stderr, rewraps)
    }

    /// Any streams. In [`Mode::Redraw`] both lead to one terminal.
    #[must_use]
    pub fn new(
        mode: Mode,
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
    ) -> Self {
        Self::with(mode, out, err, matches!(mode, Mode::Redraw(_)), false)
    }

    pub(super) fn with(
        mode: Mode,
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
        shares_stderr: bool,
        rewraps: bool,
    ) -> Self {
        Self {
            streams: Arc::new(Streams {
                mode,
                out: Output::new(out),
                err: Output::new(err),
                shares_stderr,
                rewraps,
                drawing: Mutex::default(),
            }),
        }
    }

    /// How progress is shown.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.streams.mode
    }

    /// Whether stderr is the terminal on which stdout draws: what others write there tears the drawing.
    #[must_use]
    pub fn shares_stderr(&self) -> bool {
        self.streams.shares_stderr
    }

    fn drawing(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        let drawing = self.streams.drawing.lock();
        drawing.unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws a text in place of the last one; nothing happens in [`Mode::Lines`]. The text has no control
    /// characters but newlines. What exceeds the terminal is not shown.
    pub fn draw(&self, text: &str) {
        let Mode::Redraw(size) = self.streams.mode else {
            return;
        };
        let mut drawing = self.drawing();
        let bar = drawing.get_or_insert_with(|| {
            let canvas = Canvas::new(self.streams.out.clone(), size, self.streams.rewraps);
            let target = ProgressDrawTarget::term_like(Box::new(canvas));
            let style = ProgressStyle::with_template("{msg}").expect("the template is valid");
            ProgressBar::with_draw_target(None, target)
                .with_style(style)
                .with_finish(ProgressFinish::Abandon)
        });
        bar.set_message(text.trim_end_matches('\n').to_owned());
    }

    /// Removes what is drawn.
    pub fn clear(&self) {
        if let Some(bar) = self.drawing().take() {
            bar.finish_and_clear();
        }
    }

    /// Leaves what is drawn where it is: the next drawing begins below.
    pub fn keep(&self) {
        self.drawing().take();
    }

    /// Writes a line to stdout. In [`Mode::Lines`] it begins with the time of day, in UTC.
    ///
    /// # Errors
    /// Nobody reads stdout.
    pub fn say(&self, line: &str) -> io::Result<()> {
        self.print(&self.stamped(line))
    }

    /// Writes a line to stderr, as [`say`](Self::say) does to stdout. Nothing happens if nobody reads it.
    pub fn remark(&self, line: &str) {
        self.write_error(format!("{}\n", self.stamped(line)).as_bytes());
    }

    /// Writes a text and a newline to stdout.
    ///
    /// # Errors
    /// Nobody reads stdout.
    pub fn print(&self, text: &str) -> io::Result<()> {
        self.beside(true, || {
            self.streams.out.write(format!("{text}\n").as_bytes())
        })
    }

    /// Writes whole lines to stderr. Nothing happens if nobody reads it: that is no reason to stop.
    pub fn write_error(&self, lines: &[u8]) {
        self.beside(self.streams.shares_stderr, || {
            let _ = self.streams.err.write(lines);
        });
    }

    fn stamped(&self, line: &str) -> String {
        match self.streams.mode {
            Mode::Redraw(_) => line.to_owned(),
            Mode::Lines => format!("{} {line}", Timestamp::now().time_of_day()),
        }
    }

    /// Writes above what is drawn, if it would be written over it otherwise.
    fn beside<T>(&self, on_drawing: bool, write: impl FnOnce() -> T) -> T {
        // Without a drawing, nobody waits for anybody: a stream whose reader stalls must not hold up the
        // other.
        if !on_drawing || matches!(self.streams.mode, Mode::Lines) {
            return write();
        }
        match self.drawing().as_ref() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

/// Takes one event of the log, and writes it to stderr when it is dropped.
#[derive(Debug)]
pub struct LogWriter<'a> {
    console: &'a Console,
    event: Vec<u8>,
}

impl Write for LogWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.event.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogWriter<'_> {
    fn drop(&mut self) {
        if !self.event.is_empty() {
            self.console.write_error(&self.event);
        }
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = LogWriter<'a>;

    fn make_writer(&'a self) -> LogWriter<'a> {
        LogWriter {
            console: self,
            event: Vec::new(),
        }
    }
}
