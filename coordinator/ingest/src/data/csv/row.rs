//! Fields of a row and what they mean. Bytes, not strings: a data set has 300 MB of digits.

use quartet_shared::dataset::Split;

use crate::data::RowProblem;

/// How much of a bad field an error shows.
const EXCERPT: usize = 24;

/// The fields of a line, without the quotes around a quoted field. No field of these files has a line end or
/// an escaped quote in it.
pub(super) fn fields(line: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let line = &line[blanks(line, separator)..];
        let (field, after) = match line.strip_prefix(b"\"") {
            Some(quoted) => split_at_byte(quoted, b'"'),
            None => (line, None),
        };
        let (field, next) = match after {
            Some(after) => (field, split_at_byte(after, separator).1),
            None => split_at_byte(line, separator),
        };
        rest = next;
        Some(field)
    })
}

/// How many blanks a field begins with. A tab may be the end of an empty one.
fn blanks(line: &[u8], separator: u8) -> usize {
    let is_blank = |&byte: &u8| byte.is_ascii_whitespace() && byte != separator;
    let first = line.iter().position(|byte| !is_blank(byte));
    first.unwrap_or(line.len())
}

fn split_at_byte(bytes: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    match bytes.iter().position(|&byte| byte == separator) {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    }
}

/// A whole number, also as `3.0`.
pub(super) fn whole_number(text: &str) -> Option<usize> {
    let (number, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let whole = fraction.bytes().all(|byte| byte == b'0');
    number.parse().ok().filter(|_| digits && whole)
}

/// The split: `Training`, `PublicTest` or `PrivateTest`.
pub(super) fn usage(field: &[u8]) -> Result<Split, RowProblem> {
    let text = text(field, "usage")?;
    let names = ["Training", "PublicTest", "PrivateTest"];
    let found = names
        .iter()
        .position(|name| name.eq_ignore_ascii_case(text));
    found
        .map(|at| Split::ALL[at])
        .ok_or_else(|| RowProblem::Usage(excerpt(text.as_bytes())))
}

/// Whole numbers from 0 to 255 with white space between them, into `image`.
pub(super) fn pixels(field: &[u8], image: &mut Vec<u8>) -> Result<(), RowProblem> {
    image.clear();
    let mut number = None;
    for &byte in field {
        number = match (byte, number) {
            (b'0'..=b'9', number) => {
                let value = number.unwrap_or(0) * 10 + u32::from(byte - b'0');
                if value > 255 {
                    return Err(bad_pixel(field));
                }
                Some(value)
            }
            (b' ' | b'\t', None) => None,
            (b' ' | b'\t', Some(value)) => {
                image.push(value as u8);
                None
            }
            _ => return Err(bad_pixel(field)),
        };
    }
    image.extend(number.map(|value| value as u8));
    Ok(())
}

/// Finds the pixel that [`pixels`] stopped at: the slow way, once.
fn bad_pixel(field: &[u8]) -> RowProblem {
    let Ok(text) = text(field, "pixels") else {
        return RowProblem::NotUtf8("pixels");
    };
    let is_good = |word: &str| {
        word.bytes().all(|byte| byte.is_ascii_digit())
            && word.trim_start_matches('0').len() <= 3
            && word.parse::<u64>().is_ok_and(|value| value <= 255)
    };
    let bad = text
        .split([' ', '\t'])
        .filter(|word| !word.is_empty())
        .zip(1..);
    let (word, index) = bad
        .into_iter()
        .find(|(word, _)| !is_good(word))
        .unwrap_or((text, 1));
    RowProblem::Pixel {
        index,
        text: excerpt(word.as_bytes()),
    }
}

/// Whether a row has as many pixels as the rows before, or as some square image if it is the first.
pub(super) fn check_len(found: usize, expected: Option<usize>) -> Result<(), RowProblem> {
    match expected {
        Some(expected) if found != expected => Err(RowProblem::PixelCount { found, expected }),
        None if side(found).is_none() => Err(RowProblem::NotSquare { found }),
        _ => Ok(()),
    }
}

/// The side of a square image of so many pixels.
pub(super) fn side(image_len: usize) -> Option<u16> {
    let side = image_len.isqrt();
    if side * side == image_len {
        u16::try_from(side).ok().filter(|&side| side > 0)
    } else {
        None
    }
}

/// The beginning of a field, for people.
pub(super) fn excerpt(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field.trim_ascii());
    match text.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into_owned(),
    }
}

/// A field of a column as text, trimmed.
pub(super) fn text<'a>(field: &'a [u8], column: &'static str) -> Result<&'a str, RowProblem> {
    std::str::from_utf8(field)
        .map(str::trim)
        .map_err(|_| RowProblem::NotUtf8(column))
}
