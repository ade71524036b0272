//! Which keys a program uses: the flags of all three.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use quartet_proto::channel::Connector;

use crate::{KeyError, KeyFolder, Role, client};

/// What programs are told about keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct KeyChoice {
    /// Folder of the keys, as `coordinator keys` makes it [default: $XDG_CONFIG_HOME/quartet/keys or
    /// ~/.config/quartet/keys, if there are any].
    #[arg(long = "tls", value_name = "DIR", env = "QUARTET_TLS", value_parser = path(), help_heading = "Keys")]
    pub folder: Option<PathBuf>,
    /// Use no keys, even if there are some: no TLS, and whoever reaches the coordinator may do everything.
    #[arg(long, help_heading = "Keys")]
    pub insecure: bool,
}

impl KeyChoice {
    /// This choice, or the other where this one says nothing.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self {
            folder: self.folder.or_else(|| other.folder.clone()),
            insecure: self.insecure || other.insecure,
        }
    }

    /// The folder to use: the one that is named, else the user's own if there is one.
    ///
    /// # Errors
    /// The folder that is named is none, or the user's own cannot be looked into.
    pub fn folder(&self) -> Result<Option<KeyFolder>, KeyError> {
        let named = self.folder.as_ref();
        let named = named.filter(|folder| !folder.as_os_str().is_empty());
        match named {
            _ if self.insecure => Ok(None),
            Some(folder) if folder.is_dir() => Ok(Some(KeyFolder::new(folder))),
            Some(folder) => Err(KeyError::invalid(
                folder,
                "--tls or QUARTET_TLS names it, and it is no folder",
            )),
            None => match KeyFolder::of_user() {
                Ok(own) => Ok(own.exists()?.then_some(own)),
                Err(_) => Ok(None),
            },
        }
    }

    /// How to connect as the first of these roles of which there are keys; `wanted` is the program or the
    /// call.
    ///
    /// # Errors
    /// There are keys, and they cannot be used.
    pub fn connector(&self, roles: &[Role], wanted: &'static str) -> Result<Connector, KeyError> {
        let Some(folder) = self.folder()? else {
            return Ok(Connector::tcp());
        };
        client::connector(&folder, folder.first(roles, wanted)?)
    }
}

/// A path, or nothing: an empty variable is as good as none.
pub fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}
