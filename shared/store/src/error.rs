//! What can go wrong with the store.

use std::io;

use quartet_shared::dataset::DatasetError;
use quartet_shared::label::{MAX_REASON, shortened};

/// What can go wrong with the store. Every message names the store and the key.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The location cannot be a store.
    #[error("cannot use {location:?} as a store: {reason}")]
    Location {
        /// As the user gave it.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An operation failed.
    #[error(
        "cannot {operation} {key:?} in store {store}: {cause}",
        cause = shortened(&cause.to_string(), MAX_REASON)
    )]
    Operation {
        /// Such as "read".
        operation: &'static str,
        /// The object.
        key: String,
        /// The store as the user named it.
        store: String,
        /// Why, with all that lies below: object_store's messages repeat their sources, so this is not one.
        /// What was read can be part of it.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An object that was there is not: the whole store has gone.
    #[error("store {store} has lost {key:?}: was it moved or deleted, or is its disk not mounted?")]
    Gone {
        /// The object.
        key: String,
        /// The store as the user named it.
        store: String,
    },
    /// There is no such object.
    #[error("there is no object {key:?} in store {store}")]
    NotFound {
        /// The object.
        key: String,
        /// The store as the user named it.
        store: String,
    },
}

impl StoreError {
    /// Whether an object could not be written.
    #[must_use]
    pub fn is_of_write(&self) -> bool {
        matches!(self, Self::Operation { operation, .. } if ["create", "write"].contains(operation))
    }

    /// Whether an object is there and is not what it should be.
    #[must_use]
    pub fn is_of_content(&self) -> bool {
        matches!(
            self,
            Self::Operation { cause, .. }
                if cause.is::<serde_json::Error>() || cause.is::<DatasetError>()
        )
    }

    /// Whether a retry cannot help before a person has acted: the disk is full, the store may not be
    /// written to, it is gone, or an object in it is not what it should be.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        let Self::Operation { cause, .. } = self else {
            return matches!(self, Self::Location { .. } | Self::Gone { .. });
        };
        let mut error: Option<&(dyn std::error::Error + 'static)> = Some(&**cause);
        while let Some(cause) = error {
            if let Some(io) = cause.downcast_ref::<io::Error>()
                && is_permanent_kind(io.kind())
            {
                return true;
            }
            if cause.is::<serde_json::Error>() {
                return true;
            }
            if let Some(
                object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }
                | object_store::Error::NotFound { .. },
            ) = cause.downcast_ref()
            {
                return true;
            }
            error = cause.source();
        }
        false
    }
}

fn is_permanent_kind(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::*;
    matches!(
        kind,
        StorageFull | QuotaExceeded | ReadOnlyFilesystem | PermissionDenied | NotADirectory
    )
}
