//! Tables for other programs: RFC 4180, but that lines end as text does here.

use std::borrow::Cow;

/// A text as a field of a table.
#[must_use]
pub fn field(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(text)
    }
}
