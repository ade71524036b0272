//! The command line of `status`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser};
use clap_complete::Shell;
use tonic::transport::Uri;

/// Where a coordinator listens when nothing else is said.
const DEFAULT_PORT: u16 = 50051;

const EXAMPLES: &str = "\
Examples:
  status                                      the coordinator on this machine, once
  status --coordinator node7:50051 --follow   until the experiment has ended
  status --follow > progress.log              one line per change
  status --json | jq '.runs[].metrics'        for scripts
  status --follow --json                      one JSON object per line and change
  status --completions bash                   completions for a shell

Exit status:
  0    a snapshot was shown, or the experiment that was followed finished
  1    the experiment that was followed failed, or the coordinator cannot be reached
  2    wrong usage
  130  interrupted";

/// Shows how far the runs and the workers of a coordinator are.
#[derive(Debug, Parser)]
#[command(name = "status", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to show.
    #[command(flatten)]
    pub options: Options,
    /// Prints completions for a shell, and exits.
    #[arg(long, value_name = "SHELL")]
    pub completions: Option<Shell>,
}

/// What to show.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The coordinator's address; the port is 50051 unless given.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "QUARTET_COORDINATOR",
        default_value = "127.0.0.1:50051"
    )]
    pub coordinator: Address,
    /// Goes on until the experiment has ended: tables drawn anew on a terminal, else one line per change.
    #[arg(short, long)]
    pub follow: bool,
    /// JSON instead of tables; with --follow one object per line and change.
    #[arg(long)]
    pub json: bool,
    /// With --follow: how long the coordinator may be out of reach, such as 90s or 1h.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "5m",
        value_parser = humantime::parse_duration
    )]
    pub give_up_after: Duration,
}

/// A coordinator's address, with or without `http://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host_and_port: String,
}

/// A text that is no coordinator's address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidAddress {
    /// Not of the form.
    #[error("use HOST:PORT, for example node7:50051 or [::1]:50051")]
    Form,
    /// TLS is asked for.
    #[error("the coordinator does not speak https: use http:// or leave it out")]
    Https,
}

impl Address {
    /// The address as a URI.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("http://{}", self.host_and_port)
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if text.starts_with("https://") {
            return Err(InvalidAddress::Https);
        }
        let bare = text.strip_prefix("http://").unwrap_or(text);
        let uri: Uri = format!("http://{bare}")
            .parse()
            .map_err(|_| InvalidAddress::Form)?;
        let (Some(host), "/", None) = (uri.host(), uri.path(), uri.query()) else {
            return Err(InvalidAddress::Form);
        };
        // `Uri` takes ports that are none for absent ones.
        let port = match bare.trim_end_matches('/').strip_prefix(host) {
            Some("") => DEFAULT_PORT,
            Some(rest) => {
                let port = rest.strip_prefix(':').and_then(|port| port.parse().ok());
                port.filter(|port| *port != 0).ok_or(InvalidAddress::Form)?
            }
            None => return Err(InvalidAddress::Form),
        };
        if host.is_empty() {
            return Err(InvalidAddress::Form);
        }
        Ok(Self {
            host_and_port: format!("{host}:{port}"),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.host_and_port)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn addresses_may_have_a_scheme_and_lack_a_port() {
        for (given, meant) in [
            ("node7:1234", "node7:1234"),
            ("http://node7:1234", "node7:1234"),
            ("http://10.0.0.1:1234/", "10.0.0.1:1234"),
            ("node7", "node7:50051"),
            ("[::1]:1234", "[::1]:1234"),
            ("[::1]", "[::1]:50051"),
        ] {
            assert_eq!(given.parse::<Address>().unwrap().to_string(), meant);
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for bad in [
            "",
            ":50051",
            "node7:",
            "node7:0",
            "node7:x",
            "node7:70000",
            "a b:1",
            "node7:1/x",
            "u@node7:1",
        ] {
            assert_eq!(bad.parse::<Address>(), Err(InvalidAddress::Form), "{bad:?}");
        }
        assert_eq!(
            "https://node7:1".parse::<Address>(),
            Err(InvalidAddress::Https)
        );
    }
}
