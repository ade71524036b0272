//! Which keys a program uses: the flags of all three.

use std::path::PathBuf;

use quartet_proto::channel::Connector;

use crate::{KeyError, KeyFolder, Role, client};

/// What programs are told about keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Keys")]
pub struct KeyChoice {
    /// Folder of the keys, as `coordinator keys` makes it [default: $XDG_CONFIG_HOME/quartet/keys or
    /// ~/.config/quartet/keys, if there are any].
    #[arg(long = "tls", value_name = "DIR", env = "QUARTET_TLS")]
    pub folder: Option<PathBuf>,
    /// Use no keys, even if there are some: no TLS, and whoever reaches the coordinator may do everything.
    #[arg(long)]
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
    #[must_use]
    pub fn folder(&self) -> Option<KeyFolder> {
        if self.insecure {
            return None;
        }
        let own = || KeyFolder::of_user().ok().filter(KeyFolder::exists);
        self.folder.clone().map(KeyFolder::new).or_else(own)
    }

    /// How to connect as the first of these roles of which there are keys; `wanted` is the program or the
    /// call.
    ///
    /// # Errors
    /// There are keys, and they cannot be used.
    pub fn connector(&self, roles: &[Role], wanted: &'static str) -> Result<Connector, KeyError> {
        let Some(folder) = self.folder() else {
            return Ok(Connector::tcp());
        };
        let role = roles.iter().find(|role| folder.has(**role));
        let role = role.ok_or_else(|| {
            let files: Vec<_> = roles.iter().map(|role| format!("{role}.pem")).collect();
            KeyError::Missing {
                folder: folder.path().to_owned(),
                wanted,
                file: files.join(" or "),
            }
        })?;
        client::connector(&folder, *role)
    }
}
