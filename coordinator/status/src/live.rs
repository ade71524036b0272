//! Snapshots as they come: a screen that is drawn anew in place, or a log that grows by a line per change.

use std::io::{self, Stdout, Write};

use quartet_shared::terminal::{Mode, Size};

use super::render;
use super::snapshot::Snapshot;

/// Back to column 0, and on with wrapping off: a line that is too long is cut, so that the number of lines
/// stays known.
const BEGIN: &str = "\r\x1b[?7l";
/// Clears what an older, longer drawing left below, and turns wrapping on again.
const END: &str = "\x1b[J\x1b[?7h";
const CLEAR_LINE_END: &str = "\x1b[K";

/// Shows one snapshot after the other.
#[derive(Debug)]
pub struct Screen<W> {
    out: W,
    mode: Mode,
    previous: Option<Snapshot>,
    last_line: String,
    /// Lines above the cursor that the next drawing replaces.
    drawn: usize,
}

impl Screen<Stdout> {
    /// A screen on stdout, in the mode that suits it.
    #[must_use]
    pub fn on_stdout() -> Self {
        Self::new(io::stdout(), Mode::of_stdout())
    }
}

impl<W: Write> Screen<W> {
    /// A screen on any writer.
    #[must_use]
    pub fn new(out: W, mode: Mode) -> Self {
        Self {
            out,
            mode,
            previous: None,
            last_line: String::new(),
            drawn: 0,
        }
    }

    /// Shows the state as it is now. Nothing is left half-drawn: the terminal is as before when this returns.
    pub fn show(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        match self.mode {
            Mode::Redraw(size) => self.redraw(snapshot, size())?,
            Mode::Lines => self.append(snapshot)?,
        }
        self.out.flush()
    }

    /// Leaves what is drawn where it is: the next drawing begins below. For when something else writes to the
    /// terminal.
    pub fn release(&mut self) {
        self.drawn = 0;
    }

    /// Ends it; what is drawn stays.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn redraw(&mut self, snapshot: &Snapshot, size: Size) -> io::Result<()> {
        let text = render::table(snapshot, size.columns);
        // One line stays free for the cursor.
        let fitting = usize::from(size.rows.saturating_sub(1).max(1));
        let mut drawing = up(self.drawn) + BEGIN;
        self.drawn = 0;
        for line in text.lines().take(fitting) {
            drawing.extend([line, CLEAR_LINE_END, "\n"]);
            self.drawn += 1;
        }
        // In one piece, so that it does not flicker.
        self.out.write_all((drawing + END).as_bytes())
    }

    fn append(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        for line in render::lines(self.previous.as_ref(), snapshot) {
            if line != self.last_line {
                writeln!(self.out, "{line}")?;
                self.last_line = line;
            }
        }
        self.previous = Some(snapshot.clone());
        Ok(())
    }
}

fn up(lines: usize) -> String {
    if lines == 0 {
        String::new()
    } else {
        format!("\x1b[{lines}A")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::sample;

    fn small() -> Size {
        Size {
            columns: 40,
            rows: 5,
        }
    }

    fn text(screen: Screen<Vec<u8>>) -> String {
        String::from_utf8(screen.into_inner()).unwrap()
    }

    #[test]
    fn a_drawing_replaces_the_one_before_and_never_scrolls() {
        let mut screen = Screen::new(Vec::new(), Mode::Redraw(small));
        screen.show(&sample::waiting()).unwrap();
        let first = screen.out.len();
        screen.show(&sample::training()).unwrap();
        let drawn = text(screen);
        assert!(!drawn[..first].contains("\x1b[4A"));
        assert!(drawn[first..].starts_with("\x1b[4A\r\x1b[?7lexperiment"));
        assert_eq!(drawn[first..].lines().count(), 5, "four lines and the end");
        assert!(drawn.ends_with("\x1b[J\x1b[?7h"));
    }

    #[test]
    fn a_released_screen_is_drawn_below() {
        let mut screen = Screen::new(Vec::new(), Mode::Redraw(small));
        screen.show(&sample::training()).unwrap();
        screen.release();
        let first = screen.out.len();
        screen.show(&sample::training()).unwrap();
        assert!(text(screen)[first..].starts_with(BEGIN));
    }

    #[test]
    fn a_log_has_no_line_for_what_did_not_change() {
        let mut screen = Screen::new(Vec::new(), Mode::Lines);
        screen.show(&sample::training()).unwrap();
        let first = screen.out.len();
        screen.show(&sample::training()).unwrap();
        assert!(first > 0);
        assert_eq!(screen.out.len(), first);
    }
}
