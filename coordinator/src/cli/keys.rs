//! `coordinator keys`: makes keys, shows them, renews them.

use std::fmt::Write as _;
use std::path::Path;

use quartet_identity::folder::Key;
use quartet_identity::{KeyError, KeyFolder, date};
use time::OffsetDateTime;

use super::args::{KeysArgs, KeysCommand};

/// Does what is asked for; what to print.
pub(super) fn run(args: &KeysArgs) -> Result<String, KeyError> {
    let named = args
        .tls
        .as_ref()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = match args.folder.as_ref().or(named) {
        Some(folder) => KeyFolder::new(folder),
        None => KeyFolder::of_user()?,
    };
    let path = folder.path().display();
    match &args.command {
        None if folder.create(args.days)? => {
            Ok(format!("new keys in {path}\n{}{ADVICE}", list(&folder)?))
        }
        None => Ok(format!("keys in {path}\n{}", list(&folder)?)),
        Some(KeysCommand::Add { name, role }) => {
            let added = folder.add(name, *role, args.days)?;
            let added = added.path().display();
            Ok(format!(
                "keys for the {role} {name} in {added}\n\
                 copy this folder there and name it with --tls, or put it at ~/.config/quartet/keys\n"
            ))
        }
        Some(KeysCommand::Renew) => {
            folder.renew(args.days)?;
            Ok(format!("renewed keys in {path}\n{}", list(&folder)?))
        }
    }
}

const ADVICE: &str = "\
\nKeep ca.key to yourself: who has it makes keys. For another machine or person:
  coordinator keys add NAME --role worker|viewer|admin
";

/// The certificates as a table.
fn list(folder: &KeyFolder) -> Result<String, KeyError> {
    let keys = folder.keys()?;
    let mut out = format!(
        "\n{:<12} {:<20} {:<22} certificate\n",
        "role", "name", "expires"
    );
    let authority = expiry(folder.authority_expires()?);
    let _ = writeln!(out, "{:<12} {:<20} {authority:<22} ca.pem", "authority", "");
    for Key {
        name,
        role,
        expires,
        path,
    } in &keys
    {
        let path = path.strip_prefix(folder.path()).unwrap_or(path);
        let _ = writeln!(
            out,
            "{role:<12} {name:<20} {:<22} {}",
            expiry(*expires),
            Path::display(path)
        );
    }
    for concern in folder.concerns()? {
        let _ = writeln!(out, "warning: {concern}");
    }
    Ok(out)
}

/// When a certificate expires, or that it has.
fn expiry(expires: OffsetDateTime) -> String {
    let left = expires - OffsetDateTime::now_utc();
    match left.whole_days() + 1 {
        _ if left.is_negative() => format!("EXPIRED {}", date(expires)),
        1 => format!("{} (1 day)", date(expires)),
        days => format!("{} ({days} days)", date(expires)),
    }
}
