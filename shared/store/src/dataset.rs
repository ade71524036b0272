//! The packed data set in the store, of which most readers need a part.

use futures::TryStreamExt;
use quartet_shared::dataset::{DatasetError, Index};

use crate::{Store, StoreError};

impl Store {
    /// Reads the beginning of a packed data set: all but its pixels.
    ///
    /// # Errors
    /// The store fails, or the object is no data set ([`StoreError::is_of_content`]).
    pub async fn read_index(&self, key: &str) -> Result<Index, StoreError> {
        let mut chunks = self.read(key).await?;
        let mut bytes = Vec::new();
        loop {
            let next = chunks.try_next().await?;
            let complete = next.is_none();
            bytes.extend_from_slice(&next.unwrap_or_default());
            match Index::of_prefix(&bytes) {
                Ok(index) => return Ok(index),
                Err(DatasetError::TruncatedHeader { .. }) if !complete => {}
                Err(error) => {
                    return Err(StoreError::Operation {
                        operation: "read",
                        key: key.to_owned(),
                        store: self.location().to_owned(),
                        cause: error.into(),
                    });
                }
            }
        }
    }
}
