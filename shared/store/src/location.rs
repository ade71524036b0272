//! Where a store is: a directory, or a bucket.

use std::path::Path as FsPath;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;

use crate::{Store, StoreError};

impl Store {
    /// Opens `location`: `s3://bucket/prefix`, or a directory, which is made if it is not there. S3 takes its
    /// credentials, region and endpoint from the usual `AWS_*` variables.
    pub fn open(location: &str) -> Result<Self, StoreError> {
        let invalid = |reason: String| StoreError::Location {
            location: location.to_owned(),
            reason,
        };
        if let Some(bucket) = location.strip_prefix("s3://") {
            let (bucket, prefix) = bucket.split_once('/').unwrap_or((bucket, ""));
            if bucket.is_empty() {
                return Err(invalid("it names no bucket; use s3://bucket/prefix".into()));
            }
            let s3 = AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .build()
                .map_err(|e| invalid(e.to_string()))?;
            let prefix =
                Path::parse(prefix.trim_end_matches('/')).map_err(|e| invalid(e.to_string()))?;
            let inner: Arc<dyn ObjectStore> = if prefix.as_ref().is_empty() {
                Arc::new(s3)
            } else {
                Arc::new(PrefixStore::new(s3, prefix))
            };
            return Ok(Self {
                inner,
                location: location.into(),
                directory: None,
            });
        }
        if let Some((scheme, _)) = location.split_once("://")
            && scheme != "file"
        {
            return Err(invalid(format!(
                "scheme {scheme:?} is not known; use s3:// or a directory"
            )));
        }
        let directory = FsPath::new(location.strip_prefix("file://").unwrap_or(location));
        if directory.is_file() {
            return Err(invalid("it is a file, not a folder".into()));
        }
        std::fs::create_dir_all(directory).map_err(|e| invalid(e.to_string()))?;
        let directory = directory
            .canonicalize()
            .map_err(|e| invalid(e.to_string()))?;
        let local = LocalFileSystem::new_with_prefix(&directory)
            .map_err(|e| invalid(e.to_string()))?
            .with_fsync(true);
        Ok(Self {
            inner: Arc::new(local),
            location: location.into(),
            directory: Some(directory.into()),
        })
    }

    /// Opens a store that is there, to read it.
    ///
    /// # Errors
    /// There is no such directory, or [`Store::open`] refuses the location.
    pub fn open_existing(location: &str) -> Result<Self, StoreError> {
        let path = location.strip_prefix("file://").unwrap_or(location);
        if !path.contains("://") && !FsPath::new(path).exists() {
            return Err(StoreError::Location {
                location: location.to_owned(),
                reason: "there is no such directory".into(),
            });
        }
        Self::open(location)
    }
}
