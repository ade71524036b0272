//! Whether a store can be used, asked at the start.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use quartet_shared::human;

use super::{Creation, Store, StoreError};

/// How long the store may take to answer at first.
const CHECK_TIMEOUT: Duration = Duration::from_secs(20);

impl Store {
    /// Asks the store whether it can be used, so that a wrong name or key is known at once.
    ///
    /// # Errors
    /// It cannot, and what to do about it.
    pub async fn check(&self) -> Result<(), StoreError> {
        let reason = match tokio::time::timeout(CHECK_TIMEOUT, self.probe()).await {
            Ok(Ok(Creation::Exists)) => return Ok(()),
            Ok(Ok(Creation::Created)) => {
                "it overwrites objects that it is asked to create (it ignores If-None-Match), so that two \
                 coordinators could destroy each other's work; use a store with conditional writes"
                    .to_owned()
            }
            Ok(Err(error)) => advice(&error),
            Err(_) => format!(
                "it does not answer within {}; is the endpoint right (AWS_ENDPOINT)?",
                human::duration(CHECK_TIMEOUT)
            ),
        };
        Err(StoreError::Location {
            location: self.location.to_string(),
            reason,
        })
    }

    /// Lists, and creates an object twice: the second time it must exist, which is how two coordinators are
    /// told apart. File systems are trusted with that.
    async fn probe(&self) -> object_store::Result<Creation> {
        self.inner.list(None).next().await.transpose()?;
        if self.directory.is_some() {
            return Ok(Creation::Exists);
        }
        let nanos = std::time::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default()
            .as_nanos();
        let path = Path::from(format!(".quartet-probe/{}-{nanos}", std::process::id()));
        self.try_create(&path, Bytes::new()).await?;
        let again = self.try_create(&path, Bytes::new()).await;
        // It is empty, and in nobody's way.
        let _ = self.inner.delete(&path).await;
        again
    }
}

/// What is wrong with the store, and what to do about it.
fn advice(error: &object_store::Error) -> String {
    let text = error.to_string();
    if text.contains("NoSuchBucket") {
        "the bucket does not exist; create it first".to_owned()
    } else if matches!(
        error,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }
    ) {
        "access is denied: are the access key (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), the region \
         (AWS_REGION) and the permissions on the bucket right?"
            .to_owned()
    } else if text.contains("169.254.169.254") {
        // Without keys the credentials of a cloud's instance are asked for there.
        format!(
            "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
             or run on an instance that has a role ({text})"
        )
    } else {
        text
    }
}
