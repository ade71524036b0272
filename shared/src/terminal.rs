//! The terminal that a program writes to, and how progress is shown there.

use std::io::{self, IsTerminal};

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

impl Size {
    /// What is assumed where nothing is known.
    pub const DEFAULT: Self = Self {
        columns: 120,
        rows: u16::MAX,
    };

    /// The size of the terminal that this process writes to.
    #[must_use]
    pub fn of_terminal() -> Self {
        terminal_size::terminal_size().map_or(Self::DEFAULT, |(columns, rows)| Self {
            columns: columns.0,
            rows: rows.0,
        })
    }
}

/// How progress is shown.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Drawn over what was shown before; the function returns the terminal's size at the moment.
    Redraw(fn() -> Size),
    /// A line per change.
    Lines,
}

impl Mode {
    /// [`Mode::Redraw`] where stdout is a terminal that can move its cursor, else [`Mode::Lines`].
    #[must_use]
    pub fn of_stdout() -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if io::stdout().is_terminal() && !is_dumb {
            Self::Redraw(Size::of_terminal)
        } else {
            Self::Lines
        }
    }

    /// How much fits.
    #[must_use]
    pub fn size(self) -> Size {
        match self {
            Self::Redraw(size) => size(),
            Self::Lines => Size::DEFAULT,
        }
    }
}
