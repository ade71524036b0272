//! Deals images to the splits where a data set has none of its own, or not all.
//!
//! Each class is dealt by itself, so that all splits have its share (stratified). Its images are sorted by
//! the SHA-256 of their keys (an image's file name, a row's number); the first of them go to the validation
//! split, the next to the test split, the others to the training split. So the same data give the same splits
//! on every machine, and where files are added, few others move.

use std::fmt;
use std::str::FromStr;

use quartet_shared::dataset::{Images, Split};
use sha2::{Digest, Sha256};

/// Shares are counted in millionths, so that they add up exactly.
const WHOLE: u32 = 1_000_000;

/// Which splits images are dealt to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dealing {
    /// The data set's own splits stay.
    #[default]
    Own,
    /// A fraction of the training images becomes the validation split (`--valid-fraction`).
    Valid(ValidFraction),
    /// All images are dealt anew, whatever splits they had (`--split`).
    All(Shares),
}

/// A fraction of the training images: greater than 0, less than 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidFraction(u32);

/// The shares of the three splits, which add up to 1. Only that of the test split may be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    valid: u32,
    test: u32,
}

/// A text that is no share or shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidShares {
    /// Not one fraction.
    #[error("use a fraction greater than 0 and less than 1, such as 0.1")]
    Fraction,
    /// Not three shares.
    #[error(
        "use three shares that add up to 1, of training, validation and test images, such as 0.8,0.1,0.1; \
         only the last may be 0"
    )]
    Shares,
}

impl FromStr for ValidFraction {
    type Err = InvalidShares;

    fn from_str(text: &str) -> Result<Self, InvalidShares> {
        match share(text) {
            Some(share) if (1..WHOLE).contains(&share) => Ok(Self(share)),
            _ => Err(InvalidShares::Fraction),
        }
    }
}

impl FromStr for Shares {
    type Err = InvalidShares;

    fn from_str(text: &str) -> Result<Self, InvalidShares> {
        let shares: Option<Vec<u32>> = text.split(',').map(share).collect();
        match shares.as_deref() {
            Some(&[train, valid, test])
                if train > 0 && valid > 0 && train + valid + test == WHOLE =>
            {
                Ok(Self { valid, test })
            }
            _ => Err(InvalidShares::Shares),
        }
    }
}

impl fmt::Display for ValidFraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", fraction(self.0))
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let train = WHOLE - self.valid - self.test;
        let [train, valid, test] = [train, self.valid, self.test].map(fraction);
        write!(f, "{train},{valid},{test}")
    }
}

/// Millionths as a number from 0 to 1.
fn fraction(millionths: u32) -> f64 {
    f64::from(millionths) / f64::from(WHOLE)
}

/// A number from 0 to 1 in millionths.
fn share(text: &str) -> Option<u32> {
    let share: f64 = text.trim().parse().ok()?;
    let millionths = (share * f64::from(WHOLE)).round();
    (0.0..=f64::from(WHOLE))
        .contains(&millionths)
        .then_some(millionths as u32)
}

impl Shares {
    /// Whether the test split gets any image.
    pub(super) const fn has_test(self) -> bool {
        self.test > 0
    }
}

/// What tells an image from the others of its class, whatever machine it is on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key<'a> {
    /// The name of its file, without folders.
    File(&'a str),
    /// The number of its row, from 0.
    Row(u64),
}

impl Key<'_> {
    /// The first bytes of its SHA-256.
    pub(super) fn hash(self) -> u64 {
        let digest = match self {
            Self::File(name) => Sha256::digest(name.as_bytes()),
            Self::Row(row) => Sha256::digest(row.to_string().as_bytes()),
        };
        digest
            .iter()
            .take(8)
            .fold(0, |hash, &byte| hash << 8 | u64::from(byte))
    }
}

/// Splits and the hashes of their images' keys.
#[derive(Debug, Default)]
pub(super) struct Dealt {
    pub(super) splits: [Images; 3],
    pub(super) hashes: [Vec<u64>; 3],
}

impl Dealt {
    /// Moves a fraction of the training images to the validation split, which has none.
    pub(super) fn deal_valid(&mut self, fraction: ValidFraction) {
        let shares = Shares {
            valid: fraction.0,
            test: 0,
        };
        self.deal(shares);
    }

    /// Deals all images anew.
    pub(super) fn deal_all(&mut self, shares: Shares) {
        let [train, others @ ..] = &mut self.splits;
        for images in others {
            train.labels.append(&mut images.labels);
            train.votes.append(&mut images.votes);
            let pixels = std::mem::take(&mut images.pixels);
            train.pixels.reserve_exact(pixels.len());
            train.pixels.extend_from_slice(&pixels);
            if let (Some(train), Some(images)) = (&mut train.stored, &mut images.stored) {
                train.places.append(&mut images.places);
            }
        }
        let [train, others @ ..] = &mut self.hashes;
        for hashes in others {
            train.append(hashes);
        }
        self.deal(shares);
    }

    /// Moves shares of the training images to the other splits, behind what these have.
    fn deal(&mut self, shares: Shares) {
        let [train, valid, test] = &mut self.splits;
        let goes_to = choose(&train.labels, &self.hashes[0], shares);
        let each = |bytes: usize| bytes / goes_to.len().max(1);
        let (image_len, votes_len) = (each(train.pixels.len()), each(train.votes.len()));
        for (split, images) in [(Split::Valid, valid), (Split::Test, test)] {
            let count = goes_to.iter().filter(|&&to| to == split).count();
            images.labels.reserve_exact(count);
            images.pixels.reserve_exact(count * image_len);
            for (index, _) in goes_to.iter().enumerate().filter(|(_, to)| **to == split) {
                images.labels.push(train.labels[index]);
                let votes = &train.votes[index * votes_len..][..votes_len];
                images.votes.extend_from_slice(votes);
                let pixels = &train.pixels[index * image_len..][..image_len];
                images.pixels.extend_from_slice(pixels);
                if let (Some(images), Some(train)) = (&mut images.stored, &train.stored) {
                    images.places.push(train.places[index]);
                }
            }
        }
        // In place: the training images are most of the data.
        let stays = (0..goes_to.len()).filter(|&index| goes_to[index] == Split::Train);
        let mut kept = 0;
        for index in stays {
            train.labels[kept] = train.labels[index];
            for (bytes, len) in [
                (&mut train.votes, votes_len),
                (&mut train.pixels, image_len),
            ] {
                bytes.copy_within(index * len..(index + 1) * len, kept * len);
            }
            kept += 1;
        }
        train.labels.truncate(kept);
        train.votes.truncate(kept * votes_len);
        train.pixels.truncate(kept * image_len);
        if let Some(stored) = &mut train.stored {
            let mut goes_to = goes_to.iter();
            stored
                .places
                .retain(|_| goes_to.next() == Some(&Split::Train));
        }
        self.hashes = Default::default();
    }
}

/// The split of each image.
fn choose(labels: &[u8], hashes: &[u64], shares: Shares) -> Vec<Split> {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by_key(|&index| (labels[index], hashes[index], index));
    let mut goes_to = vec![Split::Train; labels.len()];
    for class in order.chunk_by(|&a, &b| labels[a] == labels[b]) {
        let [valid, test] = counts(class.len(), shares);
        for (place, &index) in class[..valid + test].iter().enumerate() {
            goes_to[index] = if place < valid {
                Split::Valid
            } else {
                Split::Test
            };
        }
    }
    goes_to
}

/// How many of a class's images go to valid and to test: the shares, rounded, but at least one image, as long
/// as one is left for training.
fn counts(images: usize, Shares { valid, test }: Shares) -> [usize; 2] {
    let of = |share: u32, left: usize| {
        let whole = u64::from(WHOLE);
        let rounded = (images as u64 * u64::from(share) + whole / 2) / whole;
        let wanted = if share == 0 { 0 } else { rounded.max(1) };
        usize::try_from(wanted).unwrap_or(left).min(left)
    };
    let valid = of(valid, images.saturating_sub(1));
    [valid, of(test, images.saturating_sub(1 + valid))]
}

#[cfg(test)]
mod tests;
