//! Objects that other programs wait for.

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use quartet_shared::blob::Checksum;

use super::{Creation, Store, StoreError};

impl Store {
    /// Creates an object as [`Store::create`] does, in a folder that another program watches.
    ///
    /// In a directory, [`Store::create`] makes a file whose name begins with the object's, and removes it
    /// after a moment. Who watches the folder can take that for an object. Here, its name says nothing of
    /// the object, `making-<sha256>`; if the writer dies, it can stay.
    ///
    /// # Errors
    /// The object cannot be created.
    pub async fn create_watched(&self, key: &str, content: Bytes) -> Result<Creation, StoreError> {
        if self.directory.is_none() {
            return self.create(key, content).await;
        }
        let failed = |e| self.error("create", key, e);
        let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
        let making = format!("{folder}/making-{}", Checksum::of(key.as_bytes()));
        let (object, making) = (Path::from(key), Path::from(making));
        self.inner
            .put(&making, content.into())
            .await
            .map_err(failed)?;
        let linked = self.inner.copy_if_not_exists(&making, &object).await;
        self.delete(making.as_ref()).await?;
        match linked {
            Ok(()) => Ok(Creation::Created),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Creation::Exists),
            // Another writer of the same object was faster, and has removed the file.
            Err(object_store::Error::NotFound { .. }) if self.exists(key).await? => {
                Ok(Creation::Exists)
            }
            Err(error) => Err(failed(error)),
        }
    }
}
