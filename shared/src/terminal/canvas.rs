//! What the library for progress bars draws on.

use std::fmt::Write as _;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::TermLike;
use unicode_width::UnicodeWidthChar;

use super::Size;
use super::console::Output;

/// Two columns have room for any character.
const LEAST_WIDTH: u16 = 2;

/// A terminal as the library takes it to be, in which a row that is full is followed by the next one.
///
/// The library pads every row to the full width and has the terminal wrap it. A terminal that changes its
/// size would join such rows and break them anew. So they are wrapped here: what is written are lines that
/// end, and the cursor waits below them, where whatever else is written does the least harm.
#[derive(Debug)]
pub(super) struct Canvas {
    output: Output,
    size: fn() -> Size,
    /// Whether the terminal breaks rows anew when it becomes narrower.
    rewraps: bool,
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    /// What is to be written.
    pending: String,
    /// The row that is being filled, and how many columns it has.
    row: String,
    column: usize,
    /// The columns of the rows above the cursor that a drawing has left.
    drawn: Vec<usize>,
    /// The columns of the rows of the drawing that has begun.
    begun: Vec<usize>,
}

impl Canvas {
    pub(super) fn new(output: Output, size: fn() -> Size, rewraps: bool) -> Self {
        Self {
            output,
            size,
            rewraps,
            rows: Mutex::default(),
        }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn move_cursor(&self, n: usize, direction: char) -> io::Result<()> {
        if n > 0 {
            let _ = write!(self.rows().pending, "\x1b[{n}{direction}");
        }
        Ok(())
    }
}

impl Rows {
    /// Ends the row that is being filled.
    fn end(&mut self) {
        let row = self.row.trim_end();
        self.begun.push(super::columns(row));
        self.pending.extend([row, "\r\n"]);
        self.row.clear();
        self.column = 0;
    }

    /// Moves from below the last drawing to its first row, and clears it. Where the terminal has broken
    /// longer rows, `width` is its width.
    fn clear(&mut self, width: Option<usize>) {
        let drawn = std::mem::take(&mut self.drawn);
        let height = |row: &usize| width.map_or(1, |width| row.div_ceil(width).max(1));
        let rows: usize = drawn.iter().map(height).sum();
        if rows > 0 {
            let _ = write!(self.pending, "\x1b[{rows}A\r\x1b[J");
        }
    }
}

impl TermLike for Canvas {
    fn width(&self) -> u16 {
        (self.size)().columns.max(LEAST_WIDTH)
    }

    /// Without the row in which the cursor waits.
    fn height(&self) -> u16 {
        (self.size)().rows.saturating_sub(1)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        if self.rows().drawn.is_empty() {
            return self.move_cursor(n, 'A');
        }
        // The library begins a drawing: it goes from the last row to the first.
        let width = usize::from(self.width());
        self.rows().clear(self.rewraps.then_some(width));
        Ok(())
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)?;
        self.rows().end();
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let width = usize::from(self.width());
        let mut rows = self.rows();
        for char in text.chars() {
            let columns = char.width().unwrap_or(0);
            if rows.column + columns > width {
                rows.end();
            }
            rows.column += columns;
            rows.row.push(char);
        }
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.rows().pending.push_str("\r\x1b[2K");
        Ok(())
    }

    /// Writes all in one piece, so that it does not flicker and nothing is left half drawn.
    fn flush(&self) -> io::Result<()> {
        let mut rows = self.rows();
        if rows.column > 0 {
            rows.end();
        }
        rows.drawn = std::mem::take(&mut rows.begun);
        let pending = std::mem::take(&mut rows.pending);
        self.output.write(pending.as_bytes())
    }
}
