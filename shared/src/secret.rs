//! What a worker proves with that a call is its own.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A worker's secret: 128 random bits, chosen when its process starts. It is sent to the coordinator alone,
/// and neither shown nor logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 16]);

impl Secret {
    /// A secret of these bits, which must be random.
    #[must_use]
    pub fn new(bits: u128) -> Self {
        Self(bits.to_be_bytes())
    }

    /// The secret as it is sent.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// What a coordinator keeps of it.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash(hex::encode(Sha256::digest(self.0)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Bytes that are no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret has 16 bytes, not {0}")]
pub struct InvalidSecret(usize);

impl TryFrom<&[u8]> for Secret {
    type Error = InvalidSecret;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidSecret> {
        let bits = bytes.try_into().map_err(|_| InvalidSecret(bytes.len()))?;
        Ok(Self(bits))
    }
}

/// The SHA-256 of a [`Secret`], which is of no use to who has it. It may be compared in any time: nobody can
/// choose a secret by its hash.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretHash(String);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new(0x1234_5678_9abc_def0);
        assert!(!format!("{secret:?}{:?}", secret.hash()).contains("5678"));
        assert_eq!(Secret::try_from(&secret.bytes()[..]), Ok(secret));
        assert_eq!(Secret::try_from(&[1, 2][..]), Err(InvalidSecret(2)));
    }

    #[test]
    fn its_hash_is_sha_256() {
        // printf '\0%.0s' {1..16} | sha256sum
        let hash = "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb";
        assert_eq!(Secret::new(0).hash(), SecretHash(hash.to_owned()));
        assert_ne!(Secret::new(1).hash(), Secret::new(2).hash());
    }
}
