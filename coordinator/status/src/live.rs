//! Snapshots as they come: a screen that is drawn anew in place, or a log that grows by a line per change.

use std::io;

use quartet_shared::terminal::{Console, Mode};

use super::render;
use super::snapshot::Snapshot;

/// Shows one snapshot after the other.
#[derive(Debug)]
pub struct Screen {
    console: Console,
    previous: Option<Snapshot>,
    last_line: String,
}

impl Screen {
    /// A screen on a console.
    #[must_use]
    pub fn new(console: Console) -> Self {
        Self {
            console,
            previous: None,
            last_line: String::new(),
        }
    }

    /// Shows the state as it is now.
    ///
    /// # Errors
    /// Nobody reads the lines.
    pub fn show(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        self.draw(snapshot, None);
        if let Mode::Lines = self.console.mode() {
            self.append(snapshot)?;
        }
        self.previous = Some(snapshot.clone());
        Ok(())
    }

    /// Draws the state as it is although nothing has changed but the time, with a remark on it. Nothing
    /// happens in a log.
    pub fn draw(&self, snapshot: &Snapshot, remark: Option<&str>) {
        if let Mode::Redraw(size) = self.console.mode() {
            let text = render::screen(snapshot, size(), remark);
            self.console.draw(&text);
        }
    }

    fn append(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        for line in render::lines(self.previous.as_ref(), snapshot) {
            if line != self.last_line {
                self.console.say(&line)?;
                self.last_line = line;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use quartet_shared::terminal::Size;

    use super::*;
    use crate::tests::{Recorder, sample};

    fn small() -> Size {
        Size {
            columns: 60,
            rows: 12,
        }
    }

    fn screen(mode: Mode) -> (Screen, Recorder) {
        let written = Recorder::new();
        let console = Console::new(mode, written.clone(), written.clone());
        (Screen::new(console), written)
    }

    #[test]
    fn a_drawing_replaces_the_one_before_and_never_scrolls() {
        let (mut screen, written) = screen(Mode::Redraw(small));
        screen.show(&sample::waiting()).unwrap();
        let first = written.text();
        assert_eq!(first.matches('\n').count(), 9, "{first:?}");
        screen.show(&sample::training()).unwrap();
        let second = written.text()[first.len()..].to_owned();
        assert!(second.starts_with("\x1b[9A\r\x1b[J"), "{second:?}");
        assert_eq!(second.matches('\n').count(), 11, "{second:?}");
    }

    #[test]
    fn a_log_has_no_line_for_what_did_not_change() {
        let (mut screen, written) = screen(Mode::Lines);
        screen.show(&sample::training()).unwrap();
        let first = written.text();
        screen.show(&sample::training()).unwrap();
        screen.draw(&sample::training(), Some("a remark"));
        assert!(!first.is_empty());
        assert_eq!(written.text(), first);
    }
}
