//! The terminal that a program writes to, and how progress is shown there.
//!
//! - [`Mode`], [`Size`]: whether there is a terminal, and how much fits
//! - [`Console`]: where a program writes for people: lines that stay, above what is drawn anew in place
//! - `canvas`: what the library draws on that keeps the two apart

mod canvas;
mod console;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};

use unicode_width::UnicodeWidthChar;

pub use console::{Console, LogWriter};

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

    /// The size of the terminal that stdout is, else what `COLUMNS` and `LINES` say.
    #[must_use]
    pub fn of_stdout() -> Self {
        let terminal = terminal_size::terminal_size_of(io::stdout());
        let known = terminal.map(|(columns, rows)| Self {
            columns: columns.0,
            rows: rows.0,
        });
        known.unwrap_or_else(|| Self::of_variables(|name| std::env::var(name).ok()))
    }

    fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let number = |name| {
            let number = variable(name)?.trim().parse().ok();
            number.filter(|number| *number > 0)
        };
        Self {
            columns: number("COLUMNS").unwrap_or(Self::DEFAULT.columns),
            rows: number("LINES").unwrap_or(Self::DEFAULT.rows),
        }
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
            Self::Redraw(Size::of_stdout)
        } else {
            Self::Lines
        }
    }

    /// How much fits.
    #[must_use]
    pub fn size(self) -> Size {
        match self {
            Self::Redraw(size) => size(),
            Self::Lines => Size::of_stdout(),
        }
    }
}

/// How many columns of a terminal a text takes, character by character.
#[must_use]
pub fn columns(text: &str) -> usize {
    text.chars().filter_map(UnicodeWidthChar::width).sum()
}

/// At most so many columns of a text; it ends with an ellipsis if some are left out.
#[must_use]
pub fn fitted(text: &str, limit: usize) -> String {
    if columns(text) <= limit {
        return text.to_owned();
    }
    let Some(room) = limit.checked_sub(1) else {
        return String::new();
    };
    let mut used = 0;
    let kept = text.chars().take_while(|char| {
        used += char.width().unwrap_or(0);
        used <= room
    });
    let kept: String = kept.collect();
    format!("{}…", kept.trim_end())
}
