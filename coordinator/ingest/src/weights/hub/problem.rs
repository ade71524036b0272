//! Why a file of the hub cannot be had.

use std::io;

use quartet_shared::blob::Checksum;

/// Why a file of the hub cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HubProblem {
    /// The file is not in the cache and the network is not to be used.
    #[error("it is not in the cache, and HF_HUB_OFFLINE is set")]
    Offline,
    /// No connection, or none that lasts; or the hub is out of order.
    #[error("{0}")]
    Unreachable(String),
    /// The hub wants to know who asks, or does not let them.
    #[error("the hub answers {status}: it is private or gated, or does not exist")]
    Denied {
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The hub does not have it.
    #[error("the hub answers 404: {0}")]
    NotFound(Missing),
    /// The bytes are not those that were published, twice.
    #[error("its bytes have SHA-256 {found} instead of {expected}")]
    Damaged {
        /// Of what arrived.
        found: Checksum,
        /// Of what was published.
        expected: Checksum,
    },
    /// The cache cannot be read or written.
    #[error("the cache cannot be used: {0}")]
    Cache(io::Error),
    /// There is no folder for the cache.
    #[error("there is no place for it: none of HOME, HF_HOME and HF_HUB_CACHE is set")]
    NoCache,
    /// The other side does not behave like the hub.
    #[error("not the answer of a Hugging Face hub: {0}")]
    Unexpected(String),
}

/// What the hub does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The repository.
    #[error("there is no such repository")]
    Repository,
    /// The branch, tag or commit.
    #[error("the repository has no such revision")]
    Revision,
    /// The file.
    #[error("the repository has no such file")]
    File,
    /// One of them.
    #[error("there is no such repository, revision or file")]
    Unknown,
}
