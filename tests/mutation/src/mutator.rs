//! A numbered sequence of damaged copies of valid inputs.

use std::ops::Range;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::numbers::{BYTES, integer, one_of, text};

/// Bytes at either end of an input in which headers and directories lie.
const EDGE: usize = 1024;

/// Most bytes that one change puts in.
const LONGEST_RUN: usize = 1 << 16;

/// What an input consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes, of which some may be text.
    Binary,
    /// Lines and words.
    Text,
}

/// Damages valid inputs. Case `n` depends on `n` and the inputs alone.
#[derive(Debug)]
pub struct Mutator {
    kind: Kind,
    valid: Vec<Vec<u8>>,
}

impl Mutator {
    /// A mutator of valid inputs of one format.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn new(kind: Kind, valid: Vec<Vec<u8>>) -> Self {
        assert!(!valid.is_empty(), "there is nothing to damage");
        Self { kind, valid }
    }

    /// The valid inputs.
    #[must_use]
    pub fn valid(&self) -> &[Vec<u8>] {
        &self.valid
    }

    /// The damaged input of this number.
    #[must_use]
    pub fn case(&self, number: u64) -> Vec<u8> {
        let mut rng = ChaCha8Rng::seed_from_u64(number);
        let index = rng.random_range(0..self.valid.len());
        let mut bytes = self.valid[index].clone();
        // Mostly one change: what a reader finds wrong first hides the others.
        let changes = one_of(&mut rng, &[1, 1, 1, 1, 2, 2, 3, 8]);
        for _ in 0..changes {
            self.change(&mut rng, &mut bytes);
        }
        bytes
    }

    fn change(&self, rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
        let words = match self.kind {
            Kind::Binary => rng.random_bool(0.15),
            Kind::Text => rng.random_bool(0.7),
        };
        match (words, rng.random_range(0..16)) {
            (true, 0..=9) => replace_number(rng, bytes),
            (true, 10..=12) => change_line(rng, bytes),
            (true, 13) => nest(rng, bytes),
            (true, _) => replace_word(rng, bytes),
            (false, 0..=2) => flip_bit(rng, bytes),
            (false, 3..=5) => set_byte(rng, bytes),
            (false, 6..=9) => set_integer(rng, bytes),
            (false, 10) => bytes.truncate(rng.random_range(0..=bytes.len())),
            (false, 11) => {
                let removed = range(rng, bytes);
                bytes.drain(removed);
            }
            (false, 12) => insert(rng, bytes),
            (false, 13) => {
                let (copied, at) = (range(rng, bytes), place(rng, bytes));
                let copied = bytes[copied].to_vec();
                bytes.splice(at..at, copied);
            }
            (false, 14) => swap(rng, bytes),
            (false, _) => self.splice(rng, bytes),
        }
    }

    /// The beginning of this input and the end of another.
    fn splice(&self, rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
        let other = &self.valid[rng.random_range(0..self.valid.len())];
        let (end, start) = (place(rng, bytes), place(rng, other));
        bytes.truncate(end);
        bytes.extend_from_slice(&other[start..]);
    }
}

/// A place to change, or the end: everywhere, but more often where headers are.
fn place(rng: &mut ChaCha8Rng, bytes: &[u8]) -> usize {
    let length = bytes.len();
    let edge = EDGE.min(length);
    match rng.random_range(0..4) {
        0 => rng.random_range(0..=edge),
        1 => length - rng.random_range(0..=edge),
        _ => rng.random_range(0..=length),
    }
}

/// A range, mostly a short one.
fn range(rng: &mut ChaCha8Rng, bytes: &[u8]) -> Range<usize> {
    let start = place(rng, bytes);
    let longest = one_of(rng, &[1, 4, 16, 64, 1024, LONGEST_RUN]);
    start..(start + rng.random_range(1..=longest)).min(bytes.len())
}

fn flip_bit(rng: &mut ChaCha8Rng, bytes: &mut [u8]) {
    let (at, bit) = (place(rng, bytes), rng.random_range(0..8));
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
}

fn set_byte(rng: &mut ChaCha8Rng, bytes: &mut [u8]) {
    let at = place(rng, bytes);
    if let Some(byte) = bytes.get_mut(at) {
        *byte = match rng.random_bool(0.7) {
            true => one_of(rng, &BYTES),
            false => rng.next_u32() as u8,
        };
    }
}

fn set_integer(rng: &mut ChaCha8Rng, bytes: &mut [u8]) {
    let (width, at, length) = (one_of(rng, &[2, 4, 8]), place(rng, bytes), bytes.len());
    let Some(target) = bytes.get_mut(at..at + width) else {
        return;
    };
    let big_endian = rng.random_bool(0.5);
    if big_endian {
        target.reverse();
    }
    let mut found = [0; 8];
    found[..width].copy_from_slice(target);
    let number = integer(rng, u64::from_le_bytes(found), width, length);
    target.copy_from_slice(&number.to_le_bytes()[..width]);
    if big_endian {
        target.reverse();
    }
}

fn insert(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    let at = place(rng, bytes);
    let longest = one_of(rng, &[1, 4, 16, 256, LONGEST_RUN]);
    let count = rng.random_range(1..=longest);
    let byte = one_of(rng, &BYTES);
    let run = match rng.random_bool(0.5) {
        true => vec![byte; count],
        false => (0..count).map(|_| rng.next_u32() as u8).collect(),
    };
    bytes.splice(at..at, run);
}

fn swap(rng: &mut ChaCha8Rng, bytes: &mut [u8]) {
    let (first, second) = (place(rng, bytes), place(rng, bytes));
    let (first, second) = (first.min(second), first.max(second));
    let longest = (second - first).min(bytes.len() - second);
    if longest > 0 {
        let count = rng.random_range(1..=longest);
        let (left, right) = bytes.split_at_mut(second);
        left[first..first + count].swap_with_slice(&mut right[..count]);
    }
}

/// The first number at or after a place, else at or before it.
fn number(rng: &mut ChaCha8Rng, bytes: &[u8]) -> Option<Range<usize>> {
    let from = place(rng, bytes);
    let digits = |byte: &u8| byte.is_ascii_digit();
    let after = bytes[from..].iter().position(digits).map(|at| from + at);
    let at = after.or_else(|| bytes[..from].iter().rposition(digits))?;
    Some(run(bytes, at, |byte| {
        byte.is_ascii_digit() || b"+-.eE_".contains(&byte)
    }))
}

/// The bytes around `at` that belong to it.
fn run(bytes: &[u8], at: usize, belongs: impl Fn(u8) -> bool) -> Range<usize> {
    let before = bytes[..at].iter().rposition(|&byte| !belongs(byte));
    let after = bytes[at..].iter().position(|&byte| !belongs(byte));
    before.map_or(0, |before| before + 1)..after.map_or(bytes.len(), |after| at + after)
}

fn replace_number(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    if let Some(found) = number(rng, bytes) {
        let new = text(rng, &bytes[found.clone()]);
        bytes.splice(found, new.bytes());
    }
}

/// Removes a word, or puts another of the same input in its place.
fn replace_word(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let [word, other] = [place(rng, bytes), place(rng, bytes)].map(|at| match at < bytes.len() {
        true => run(bytes, at, is_word),
        false => at..at,
    });
    let other = match rng.random_range(0..4) {
        0 => Vec::new(),
        1 => "\u{feff}\u{202e}\u{1f600}\u{0}".repeat(8).into_bytes(),
        _ => bytes[other].to_vec(),
    };
    bytes.splice(word, other);
}

/// Duplicates, removes or moves a line.
fn change_line(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    let at = place(rng, bytes);
    let start = bytes[..at].iter().rposition(|&byte| byte == b'\n');
    let start = start.map_or(0, |start| start + 1);
    let end = bytes[at..].iter().position(|&byte| byte == b'\n');
    let end = end.map_or(bytes.len(), |end| at + end + 1);
    let line = bytes[start..end].to_vec();
    match rng.random_range(0..3) {
        0 => drop(bytes.drain(start..end)),
        1 => {
            let copies = one_of(rng, &[1, 1, 2, 100]);
            bytes.splice(
                end..end,
                line.repeat(copies.min(1 + LONGEST_RUN / (1 + line.len()))),
            );
        }
        _ => {
            bytes.drain(start..end);
            let to = place(rng, bytes);
            let to = bytes[..to].iter().rposition(|&byte| byte == b'\n');
            let to = to.map_or(0, |to| to + 1);
            bytes.splice(to..to, line);
        }
    }
}

/// Opens many brackets, which readers that call themselves need a stack for.
fn nest(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    let at = number(rng, bytes).map_or(bytes.len(), |number| number.start);
    let open = one_of(rng, &["[", "{\"a\":", "{a=", "(", "[[", "a.", "\""]);
    let run = open.repeat(rng.random_range(1..=LONGEST_RUN / open.len()));
    bytes.splice(at..at, run.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_always_the_same() {
        let make = || {
            Mutator::new(
                Kind::Text,
                vec![b"a = 1\nb = 2\n".to_vec(), b"c = 3\n".to_vec()],
            )
        };
        let (one, two) = (make(), make());
        assert!((0..2000).all(|number| one.case(number) == two.case(number)));
    }

    #[test]
    fn nearly_every_case_is_another_input() {
        for kind in [Kind::Binary, Kind::Text] {
            let valid = vec![
                (0..=255).collect(),
                b"name = \"x\"\nepochs = 50\n".repeat(9),
            ];
            let mutator = Mutator::new(kind, valid);
            let cases: std::collections::BTreeSet<_> = (0..2000).map(|n| mutator.case(n)).collect();
            assert!(cases.len() > 1500, "{kind:?}: {}", cases.len());
        }
    }

    #[test]
    fn inputs_can_be_empty() {
        for kind in [Kind::Binary, Kind::Text] {
            let mutator = Mutator::new(kind, vec![Vec::new()]);
            assert!((0..2000).any(|number| !mutator.case(number).is_empty()));
        }
    }
}
