//! What numbers and bytes are replaced with: the ends of ranges, and what is next to them.

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

/// Bytes at which readers branch.
pub(crate) const BYTES: [u8; 22] = *b"\x00\x01\x02\x7f\x80\x81\xfe\xff09-+.\"'\n\r ,[{\\";

/// In place of a number in a text.
const TEXTS: [&str; 36] = [
    "0",
    "-0",
    "1",
    "-1",
    "2",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "100000000000000000000000000000",
    "0.5",
    "1e9",
    "1e-320",
    "1e308",
    "1e309",
    "-1e309",
    "1e999999999999",
    "nan",
    "NaN",
    "-inf",
    "",
    "null",
    "\"\"",
    "[]",
    "{}",
    "0x7fffffffffffffff",
];

/// One of `choices`.
pub(crate) fn one_of<T: Copy>(rng: &mut ChaCha8Rng, choices: &[T]) -> T {
    choices[rng.random_range(0..choices.len())]
}

/// A text that is, or stands where, a number is.
pub(crate) fn text(rng: &mut ChaCha8Rng, found: &[u8]) -> String {
    let number = std::str::from_utf8(found)
        .ok()
        .and_then(|text| text.parse::<i128>().ok());
    match (rng.random_range(0..5), number) {
        (0, Some(number)) => number.saturating_add(rng.random_range(-2..=2)).to_string(),
        (1, Some(number)) => number
            .saturating_mul(one_of(rng, &[2, 10, 1_000, 1_000_000]))
            .to_string(),
        (2, _) => format!(
            "{}{}",
            String::from_utf8_lossy(found),
            rng.random_range(0..10)
        ),
        _ => one_of(rng, &TEXTS).to_owned(),
    }
}

/// The low `width` bytes of an integer at the end of some range, or near what was `found`, or near `length`,
/// that of the whole input.
pub(crate) fn integer(rng: &mut ChaCha8Rng, found: u64, width: usize, length: usize) -> u64 {
    let bits = 8 * width as u32;
    let most = u64::MAX >> (64 - bits);
    let near = rng.random_range(0..=8_u64);
    let number = match rng.random_range(0..11) {
        0 => 0,
        1 => 1,
        2 => most,
        3 => most - 1,
        4 => 1 << (bits - 1),
        5 => most >> 1,
        6 => (length as u64).wrapping_add(near).wrapping_sub(4),
        7 => found.wrapping_add(near).wrapping_sub(4),
        8 => found.wrapping_shl(rng.random_range(1..16)),
        9 => 1 << rng.random_range(0..bits),
        _ => rng.next_u64(),
    };
    number & most
}
