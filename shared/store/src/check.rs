//! Whether a store can be used, asked at the start.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
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
        let unusable = |reason: String| StoreError::Location {
            location: self.location.to_string(),
            reason,
        };
        let mut objects = self.inner.list(None);
        let first = tokio::time::timeout(CHECK_TIMEOUT, objects.next());
        let error = match first.await {
            Ok(None | Some(Ok(_))) => return self.check_creation().await,
            Ok(Some(Err(error))) => error,
            Err(_) => {
                let waited = human::duration(CHECK_TIMEOUT);
                return Err(unusable(format!(
                    "it does not answer within {waited}; is the endpoint right (AWS_ENDPOINT)?"
                )));
            }
        };
        let text = error.to_string();
        Err(unusable(if text.contains("NoSuchBucket") {
            "the bucket does not exist; create it first".to_owned()
        } else if matches!(
            error,
            object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }
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
        }))
    }

    /// Whether an object can be created once only, which tells two coordinators apart. File systems can.
    async fn check_creation(&self) -> Result<(), StoreError> {
        if self.directory.is_some() {
            return Ok(());
        }
        let nanos = std::time::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default()
            .as_nanos();
        let key = format!(".quartet-probe/{}-{nanos}", std::process::id());
        self.create(&key, Bytes::new()).await?;
        let again = self.create(&key, Bytes::new()).await;
        // It is empty, and in nobody's way.
        let _ = self.delete(&key).await;
        match again? {
            Creation::Exists => Ok(()),
            Creation::Created => Err(StoreError::Location {
                location: self.location.to_string(),
                reason: "it overwrites objects that it is asked to create (it ignores If-None-Match), so that \
                         two coordinators could destroy each other's work; use a store with conditional writes"
                    .to_owned(),
            }),
        }
    }
}
