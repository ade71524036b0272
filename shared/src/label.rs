//! Texts that one program shows for another: names of workers and devices, and reasons.

use std::borrow::Cow;

/// Longest label in characters.
pub const MAX_LABEL: usize = 128;

/// Longest reason in characters.
pub const MAX_REASON: usize = 1000;

/// A text that cannot be a label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use 1 to {MAX_LABEL} printable characters, not {found}")]
pub struct InvalidLabel {
    found: String,
}

/// Checks a name that people see: 1 to [`MAX_LABEL`] characters, none of which is a control character.
///
/// # Errors
/// It is no such name.
pub fn check(text: &str) -> Result<(), InvalidLabel> {
    let found = match text.chars().take(MAX_LABEL + 1).count() {
        0 => "none".to_owned(),
        n if n > MAX_LABEL => text.chars().count().to_string(),
        _ if text.contains(char::is_control) => format!("{text:?}"),
        _ => return Ok(()),
    };
    Err(InvalidLabel { found })
}

/// The text as a label: cut, and without control characters.
#[must_use]
pub fn of(text: &str) -> String {
    match one_line(text).trim() {
        "" => "?".to_owned(),
        text => shortened(text, MAX_LABEL),
    }
}

/// Text from elsewhere on one line, without the control characters that would move a terminal's cursor.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        text.split(char::is_control)
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
            .into()
    } else {
        text.into()
    }
}

/// Text from elsewhere whose lines and tabs stay, without the other control characters.
#[must_use]
pub fn lines(text: &str) -> String {
    let keep = |c: &char| matches!(c, '\n' | '\t') || !c.is_control();
    text.chars().filter(keep).collect()
}

/// At most so many characters of a text; the last one is an ellipsis if some are left out.
#[must_use]
pub fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some(_) => {
            let kept = text.chars().take(limit.saturating_sub(1));
            kept.chain(['…']).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_and_printable() {
        let long = "ü".repeat(MAX_LABEL);
        for good in ["w", "gpu-0@node7", "NVIDIA H200 (2 threads)", &long] {
            assert_eq!(check(good), Ok(()));
            assert_eq!(of(good), good);
        }
        let too_long = format!("{long}ü");
        for (bad, made) in [
            ("", "?"),
            ("\n", "?"),
            ("a\x1b[2Jb", "a [2Jb"),
            ("a\n\nb\n", "a b"),
            (&too_long, &format!("{}…", "ü".repeat(MAX_LABEL - 1))),
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
            assert_eq!(of(bad), *made);
            assert_eq!(check(made), Ok(()));
        }
        let message = check(&"x".repeat(4 << 20)).unwrap_err().to_string();
        assert_eq!(message, "use 1 to 128 printable characters, not 4194304");
    }

    #[test]
    fn lines_and_tabs_stay() {
        assert_eq!(lines("a\tb\r\n\x1b[2Jü\u{9b}1m\n"), "a\tb\n[2Jü1m\n");
    }

    #[test]
    fn a_text_is_cut_only_where_it_is_too_long() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("abcd", 3), "ab…");
        assert_eq!(shortened("", 3), "");
    }
}
