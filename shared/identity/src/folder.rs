//! The folder that keys are kept in.
//!
//! `ca.pem` is the authority's certificate and `ca.key` its private key; `ROLE.pem` and `ROLE.key` are a
//! role's. `NAME/` has what another machine or person needs, and is to be copied there. Private keys can be
//! read by their owner alone. A renewed certificate keeps its key and replaces its file at once, so that a
//! program reads both from before or after.

mod files;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rcgen::KeyPair;
use time::{Duration, OffsetDateTime};

use self::files::{RemoveFolder, Secrecy, is_absence, private_folder, read, write};
use crate::authority::Authority;
use crate::certificate::Certificate;
use crate::credentials::certificates;
use crate::{KeyError, Role, date};

/// How long a certificate is good for if nothing else is said, in days.
pub const DEFAULT_DAYS: u32 = 365;
/// Most days that can be asked for.
pub const MAX_DAYS: u32 = 3650;
/// People are told so long before a certificate expires.
const WARN_BEFORE: Duration = Duration::days(30);
/// Longest name of a key; a common name has no more characters.
const MAX_NAME: usize = 64;

const CA: &str = "ca.pem";
const CA_KEY: &str = "ca.key";

/// A folder of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFolder(pub(crate) PathBuf);

/// A certificate in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The holder's name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Its last moment.
    pub expires: OffsetDateTime,
    /// The certificate's file.
    pub path: PathBuf,
}

impl KeyFolder {
    /// The folder at this path, which need not be there yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        // Without a slash at the end, which would put what lies beside it into it.
        Self(path.into().components().collect())
    }

    /// The user's own: `quartet/keys` in the configuration folder.
    ///
    /// # Errors
    /// No home directory is known.
    pub fn of_user() -> Result<Self, KeyError> {
        let configuration = std::env::var_os("XDG_CONFIG_HOME")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(".config")))
            .ok_or(KeyError::NoHome)?;
        Ok(Self(configuration.join("quartet/keys")))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether there are keys.
    ///
    /// # Errors
    /// The folder cannot be looked into.
    pub fn exists(&self) -> Result<bool, KeyError> {
        match self.authority().metadata() {
            Ok(_) => Ok(true),
            Err(error) if is_absence(&error) => Ok(false),
            Err(reason) => Err(KeyError::File {
                action: "look into",
                path: self.0.clone(),
                reason,
            }),
        }
    }

    /// Whether there are keys of this role.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.certificate(role).exists()
    }

    /// The first of these roles of which there are keys; `wanted` is the program or the call.
    ///
    /// # Errors
    /// There are none.
    pub fn first(&self, roles: &[Role], wanted: &'static str) -> Result<Role, KeyError> {
        let found = roles.iter().find(|role| self.has(**role)).copied();
        found.ok_or_else(|| {
            let files: Vec<_> = roles.iter().map(|role| format!("{role}.pem")).collect();
            KeyError::Missing {
                folder: self.0.clone(),
                wanted,
                file: files.join(" or "),
            }
        })
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.0.join(CA)
    }

    pub(crate) fn certificate(&self, role: Role) -> PathBuf {
        self.0.join(format!("{role}.pem"))
    }

    pub(crate) fn private_key(&self, role: Role) -> PathBuf {
        self.0.join(format!("{role}.key"))
    }

    /// Makes an authority and keys of all roles, if there are none; whether there were none.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn create(&self, days: u32) -> Result<bool, KeyError> {
        if self.exists()? {
            return Ok(false);
        }
        // Beside it, and moved at once: of two that make keys at a time, one makes all of them.
        let new = self.beside();
        let _clean = RemoveFolder(&new.0);
        match new.fill(days).and_then(|()| new.move_to(self)) {
            Err(_) if self.exists()? => Ok(false),
            made => made.map(|()| true),
        }
    }

    /// Where a folder is made that then takes its place.
    fn beside(&self) -> Self {
        let mut beside = self.0.clone().into_os_string();
        beside.push(format!(".new-{:08x}", rand::random::<u32>()));
        Self(beside.into())
    }

    /// Takes the place of a folder that is not there, or empty.
    fn move_to(&self, place: &Self) -> Result<(), KeyError> {
        fs::rename(&self.0, &place.0).map_err(|reason| KeyError::File {
            action: "make keys in",
            path: place.0.clone(),
            reason,
        })
    }

    fn fill(&self, days: u32) -> Result<(), KeyError> {
        private_folder(&self.0)?;
        let made = Authority::new();
        let (authority, certificate, key) =
            made.map_err(|error| KeyError::invalid(self.authority(), error))?;
        write(&self.authority(), &certificate, Secrecy::Public)?;
        write(&self.0.join(CA_KEY), &key, Secrecy::Private)?;
        for role in Role::ALL {
            issue_into(self, &authority, role.as_str(), role, days)?;
        }
        Ok(())
    }

    /// Makes keys for someone else, in a folder of this name in this one, which is to be copied to them.
    ///
    /// # Errors
    /// There is something of that name, or a file cannot be read or written.
    pub fn add(&self, name: &str, role: Role, days: u32) -> Result<Self, KeyError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let first = name
            .chars()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric());
        if !first || name.len() > MAX_NAME || !name.chars().all(allowed) {
            return Err(KeyError::Name(name.to_owned()));
        }
        let authority = self.open_authority()?;
        let folder = Self(self.0.join(name));
        if folder.0.exists() {
            return Err(KeyError::Exists(folder.0));
        }
        let new = folder.beside();
        let _clean = RemoveFolder(&new.0);
        private_folder(&new.0)?;
        issue_into(&new, &authority, name, role, days)?;
        let certificate = read(&self.authority())?;
        write(&new.authority(), &certificate, Secrecy::Public)?;
        new.move_to(&folder)?;
        Ok(folder)
    }

    /// Issues all certificates anew, those in folders of this one included; returns them.
    ///
    /// # Errors
    /// A file cannot be read or written; the others are renewed.
    pub fn renew(&self, days: u32) -> Result<Vec<Key>, KeyError> {
        let authority = self.open_authority()?;
        let renew = |key: &Key| {
            let Key {
                name, role, path, ..
            } = key;
            let key_path = path.with_extension("key");
            let pem = read(&key_path)?;
            let key = KeyPair::from_pem(&pem).map_err(|e| KeyError::invalid(&key_path, e))?;
            let certificate = authority
                .issue(name, *role, days, &key)
                .map_err(|error| KeyError::invalid(path, error))?;
            write(path, &certificate, Secrecy::Public)
        };
        // One that cannot be renewed keeps none of the others from it.
        let renewed: Vec<_> = self.keys()?.iter().map(renew).collect();
        renewed.into_iter().collect::<Result<(), _>>()?;
        self.keys()
    }

    /// When the authority expires, and with it all that it has issued.
    ///
    /// # Errors
    /// Its certificate cannot be read.
    pub fn authority_expires(&self) -> Result<OffsetDateTime, KeyError> {
        let path = self.authority();
        let der = &certificates(&path)?[0];
        Ok(Certificate::of_file(&path, der)?.expires)
    }

    /// All certificates, those in folders of this one included.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn keys(&self) -> Result<Vec<Key>, KeyError> {
        let mut keys = self.own_keys()?;
        let unreadable = |reason| KeyError::File {
            action: "read",
            path: self.0.clone(),
            reason,
        };
        let mut folders = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.is_dir()
                && path
                    .extension()
                    .is_none_or(|e| !e.to_string_lossy().starts_with("new-"))
            {
                folders.push(path);
            }
        }
        folders.sort();
        for folder in folders {
            keys.extend(Self(folder).own_keys()?);
        }
        Ok(keys)
    }

    /// What is wrong with private keys, the authority's included, and what to do.
    ///
    /// # Errors
    /// A certificate cannot be read.
    pub fn concerns(&self) -> Result<Vec<String>, KeyError> {
        let keys = self.keys()?.into_iter();
        let mut paths: Vec<_> = keys.map(|key| key.path.with_extension("key")).collect();
        let authority = self.0.join(CA_KEY);
        // Whoever got keys from another machine has none.
        if authority.exists() {
            paths.push(authority);
        }
        let concern = |path: &PathBuf| match path.metadata() {
            Err(error) if is_absence(&error) => Some(format!("{} is missing", path.display())),
            Ok(metadata) if metadata.mode() & 0o077 != 0 => {
                let path = path.display();
                Some(format!("others can read {path}: chmod 600 {path}"))
            }
            _ => None,
        };
        Ok(paths.iter().filter_map(concern).collect())
    }

    fn own_keys(&self) -> Result<Vec<Key>, KeyError> {
        let there = Role::ALL.into_iter().filter(|role| self.has(*role));
        let key = |role| {
            let path = self.certificate(role);
            let der = &certificates(&path)?[0];
            let Certificate { holder, expires } = Certificate::of_file(&path, der)?;
            let holder = holder.filter(|holder| holder.role == role);
            let holder = holder.ok_or_else(|| {
                KeyError::invalid(&path, format!("it is no {role}'s certificate"))
            })?;
            Ok(Key {
                name: holder.name,
                role: holder.role,
                expires,
                path,
            })
        };
        there.map(key).collect()
    }

    fn open_authority(&self) -> Result<Authority, KeyError> {
        let path = self.authority();
        let certificate = read(&path)?;
        let expires = self.authority_expires()?;
        if expires <= OffsetDateTime::now_utc() {
            return Err(KeyError::Expired { path, on: expires });
        }
        let key_path = self.0.join(CA_KEY);
        if !key_path.exists() {
            return Err(KeyError::NoAuthority(key_path));
        }
        let key = read(&key_path)?;
        Authority::from_pem(&certificate, &key, expires, &key_path)
    }
}

/// Makes keys of a role in a folder.
fn issue_into(
    folder: &KeyFolder,
    authority: &Authority,
    name: &str,
    role: Role,
    days: u32,
) -> Result<(), KeyError> {
    let path = folder.certificate(role);
    let invalid = |error: rcgen::Error| KeyError::invalid(&path, error);
    let key = KeyPair::generate().map_err(invalid)?;
    let certificate = authority.issue(name, role, days, &key).map_err(invalid)?;
    write(
        &folder.private_key(role),
        &key.serialize_pem(),
        Secrecy::Private,
    )?;
    write(&path, &certificate, Secrecy::Public)
}

/// Says so in the log when a certificate expires soon.
pub(crate) fn warn_of_expiry(path: &Path, expires: OffsetDateTime) {
    if expires - OffsetDateTime::now_utc() < WARN_BEFORE {
        tracing::warn!(
            certificate = %path.display(),
            "the certificate expires on {}; renew it with `coordinator keys renew`",
            date(expires)
        );
    }
}
