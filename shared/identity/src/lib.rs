//! Who may do what: keys, roles, and TLS between Quartet's programs.
//!
//! A private certificate authority issues a certificate for each program. What its holder may do is its
//! [`Role`], which is part of the certificate. Both sides show theirs: clients take a coordinator's alone,
//! and the coordinator looks at the role before it answers a call.
//!
//! - [`role`]: roles and what they may do
//! - `authority`: the certificate authority; `certificate`: what a certificate says
//! - [`folder`]: the folder that keys are kept in, from their making to their renewal
//! - [`choice`]: the flags that name it
//! - [`client`]: connections that show a certificate
//! - [`session`]: sessions of browsers, which show no certificate
//! - [`server`]: connections of which the holder is known

mod authority;
mod certificate;
pub mod choice;
pub mod client;
mod credentials;
pub mod folder;
pub mod role;
pub mod server;
pub mod session;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use time::OffsetDateTime;

pub use choice::KeyChoice;
pub use folder::KeyFolder;
pub use role::{Access, Role};

/// Keys cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error(
        "cannot {action} {}: {reason} (--tls or QUARTET_TLS names the folder of the keys; `coordinator keys` \
         shows what is in it)",
        path.display()
    )]
    File {
        /// What was tried, such as "read".
        action: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// The authority's private key is not there.
    #[error("there is no {}: make and renew keys where it is", .0.display())]
    NoAuthority(PathBuf),
    /// The folder has no key for what it is to be used for.
    #[error(
        "{} has no keys for {wanted} ({file}): --tls names another folder, `coordinator keys DIR` makes keys \
         for a new fleet, and `coordinator keys add NAME --role ROLE` more of them where the fleet's ca.key is",
        folder.display()
    )]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// The program or the call.
        wanted: &'static str,
        /// The files that were looked for.
        file: String,
    },
    /// A file is not what its name says.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate is too old.
    #[error(
        "the certificate {} expired on {}; renew it with `coordinator keys renew`",
        path.display(),
        date(*on)
    )]
    Expired {
        /// The file.
        path: PathBuf,
        /// Its last moment.
        on: OffsetDateTime,
    },
    /// A key of that name is there already.
    #[error(
        "{} is there already: choose another name (`coordinator keys renew` renews what is there)",
        .0.display()
    )]
    Exists(PathBuf),
    /// A name that cannot be a folder's and a certificate's.
    #[error(
        "the name {0:?} must be 1 to 64 letters, digits, dots, dashes and underscores, \
         a letter or digit first"
    )]
    Name(String),
    /// No home directory is known.
    #[error("no home directory is known; name a folder for keys with --tls or QUARTET_TLS")]
    NoHome,
}

impl KeyError {
    fn invalid(path: impl Into<PathBuf>, problem: impl ToString) -> Self {
        Self::Invalid {
            path: path.into(),
            problem: problem.to_string(),
        }
    }
}

/// A day as people write it.
#[must_use]
pub fn date(moment: OffsetDateTime) -> String {
    let day = moment.date();
    format!(
        "{:04}-{:02}-{:02}",
        day.year(),
        u8::from(day.month()),
        day.day()
    )
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
