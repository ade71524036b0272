//! Stores that tests look into and damage, without the code under test.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::processes::files;
use crate::s3::{self, BUCKET, S3};

/// A store that is under test.
#[derive(Debug)]
pub enum StoreUnderTest {
    /// A local directory.
    Local {
        /// As programs name it.
        location: PathBuf,
        /// As this process reaches it.
        folder: PathBuf,
    },
    /// A server with a bucket.
    S3 {
        /// The server.
        server: S3,
        /// What programs are told to be the server, such as a proxy in front of it.
        endpoint: SocketAddr,
    },
}

/// Whether this is what a program leaves that is killed while it writes an object of a local store:
/// `<key>#<number>`, which is not in the store's own listings.
fn is_unfinished(key: &str) -> bool {
    let number = key.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Where in the bucket.
const PREFIX: &str = "some/prefix/";

impl StoreUnderTest {
    /// A local directory, which need not be there yet.
    #[must_use]
    pub fn local(folder: &Path) -> Self {
        Self::Local {
            location: folder.to_owned(),
            folder: folder.to_owned(),
        }
    }

    /// What `--store` takes.
    #[must_use]
    pub fn location(&self) -> String {
        match self {
            Self::Local { location, .. } => location.display().to_string(),
            Self::S3 { .. } => format!("s3://{BUCKET}/{}", PREFIX.trim_end_matches('/')),
        }
    }

    /// The environment that programs need to open it.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Local { .. } => Vec::new(),
            Self::S3 { endpoint, .. } => s3::environment(*endpoint),
        }
    }

    /// The keys that begin with `prefix`, sorted.
    #[must_use]
    pub fn list(&self, prefix: &str) -> Vec<String> {
        let keys: Vec<String> = match self {
            Self::Local { folder, .. } => {
                let files = files(folder).into_iter();
                let keys = files.map(|path| path.display().to_string());
                keys.filter(|key| !is_unfinished(key)).collect()
            }
            Self::S3 { server, .. } => {
                let keys = server.list(&format!("{PREFIX}{prefix}")).into_iter();
                keys.map(|key| key[PREFIX.len()..].to_owned()).collect()
            }
        };
        keys.into_iter()
            .filter(|key| key.starts_with(prefix))
            .collect()
    }

    /// The bytes of an object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self {
            Self::Local { folder, .. } => fs::read(folder.join(key)).ok(),
            Self::S3 { server, .. } => server.get(&format!("{PREFIX}{key}")),
        }
    }

    /// The bytes of an object that must be there.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn read(&self, key: &str) -> Vec<u8> {
        let bytes = self.get(key);
        bytes.unwrap_or_else(|| panic!("{key} is not in {}", self.location()))
    }

    /// Writes an object, whether it is there or not.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, key: &str, bytes: &[u8]) {
        match self {
            Self::Local { folder, .. } => {
                let path = folder.join(key);
                fs::create_dir_all(path.parent().expect("below the folder"))
                    .and_then(|()| fs::write(&path, bytes))
                    .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            }
            Self::S3 { server, .. } => server.put(&format!("{PREFIX}{key}"), bytes),
        }
    }

    /// Deletes an object that is there.
    ///
    /// # Panics
    /// If it cannot be deleted.
    pub fn delete(&self, key: &str) {
        match self {
            Self::Local { folder, .. } => {
                fs::remove_file(folder.join(key)).expect("the object is there");
            }
            Self::S3 { server, .. } => server.delete(&format!("{PREFIX}{key}")),
        }
    }
}
