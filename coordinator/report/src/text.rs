//! Foreign text and numbers for readers.

use quartet_shared::human;
use quartet_shared::label::{MAX_REASON, one_line, shortened};

/// Foreign text on one line of at most so many characters, without those that XML forbids and those that turn
/// the direction of what follows.
pub(crate) fn clean(text: &str, limit: usize) -> String {
    let line = one_line(text);
    let allowed = line.chars().filter(|&c| !is_unwanted(c));
    shortened(&allowed.take(limit + 1).collect::<String>(), limit)
}

fn is_unwanted(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// A foreign reason, cut.
pub(crate) fn reason(text: &str) -> String {
    clean(text, MAX_REASON)
}

/// A fraction of 1 in percent with one decimal, for figures and tables: `72.8 %`. A number that is none is a
/// dash.
pub(crate) fn percent(fraction: f64) -> String {
    if fraction.is_finite() {
        format!("{:.1}\u{a0}%", fraction * 100.0)
    } else {
        "–".to_owned()
    }
}

/// A fraction of 1 in percent with two decimals: `72.75 %`. A number that is none is a dash.
pub(crate) fn percentage(fraction: f64) -> String {
    if fraction.is_finite() {
        human::percentage(fraction).replace(' ', "\u{a0}")
    } else {
        "–".to_owned()
    }
}

/// A score with three decimals: `0.873`.
pub(crate) fn score(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.3}")
    } else {
        "–".to_owned()
    }
}

/// A loss in nats: `1.234`; one that is no number is told as it is.
pub(crate) fn loss(value: f64) -> String {
    if value.is_finite() && value < 1e6 {
        format!("{value:.3}")
    } else {
        format!("{value}").chars().take(12).collect()
    }
}

/// A whole number with a thin space between thousands: `28 709`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3 * 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 epoch`, `2 epochs`.
pub(crate) fn plural(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{}\u{a0}{noun}{ending}", count(number))
}
