//! Sizes and checksums of bytes: how an object of the store is named, and how it is verified.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::chunks::CHUNK_SIZE;

/// A SHA-256 checksum; hexadecimal in JSON and on display.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum(pub [u8; 32]);

impl Checksum {
    /// The checksum of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Checksum> for String {
    fn from(sum: Checksum) -> String {
        sum.to_string()
    }
}

impl TryFrom<String> for Checksum {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(&text, &mut bytes)
            .map_err(|e| format!("{text:?} is not a SHA-256 checksum: {e}"))?;
        Ok(Self(bytes))
    }
}

/// Size and checksum of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Size in bytes.
    pub size: u64,
    /// Checksum of the bytes.
    pub sha256: Checksum,
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes with SHA-256 {}", self.size, self.sha256)
    }
}

/// An object of the store with the size and checksum that its bytes must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    /// Its key in the store.
    pub key: String,
    /// Its size and checksum.
    #[serde(flatten)]
    pub blob: Blob,
}

/// Size and checksum of bytes that come one after the other.
#[derive(Clone, Debug, Default)]
pub struct BlobHasher {
    size: u64,
    sha256: Sha256,
}

impl BlobHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.sha256.update(bytes);
    }

    /// Bytes so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Size and checksum of all bytes.
    #[must_use]
    pub fn finish(self) -> Blob {
        Blob {
            size: self.size,
            sha256: Checksum(self.sha256.finalize().into()),
        }
    }
}

impl Blob {
    /// Size and checksum of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            size: bytes.len() as u64,
            sha256: Checksum::of(bytes),
        }
    }

    /// Size and checksum of a file. Blocks.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hasher = BlobHasher::default();
        let mut buffer = vec![0; CHUNK_SIZE];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finish()),
                n => hasher.update(&buffer[..n]),
            }
        }
    }
}
