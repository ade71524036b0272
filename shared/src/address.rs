//! Addresses of coordinators, as people write them.
//!
//! `http::Uri` also takes users, paths and port 0, and does not know the default port.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Where a coordinator listens when nothing else is said.
pub const DEFAULT_PORT: u16 = 50051;

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
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        // Colons belong to the address within brackets, and to the port after them.
        let (host, rest) = match bare.find(']') {
            Some(end) => bare.split_at(end + 1),
            None => bare.split_at(bare.find(':').unwrap_or(bare.len())),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0),
            None => rest.is_empty().then_some(DEFAULT_PORT),
        };
        match port {
            Some(port) if is_host(host) => Ok(Self {
                host_and_port: format!("{host}:{port}"),
            }),
            _ => Err(InvalidAddress::Form),
        }
    }
}

fn is_host(host: &str) -> bool {
    match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            !host.is_empty() && host.chars().all(allowed)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.host_and_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            "[::1",
            "::1",
        ] {
            assert_eq!(bad.parse::<Address>(), Err(InvalidAddress::Form), "{bad:?}");
        }
        assert_eq!(
            "https://node7:1".parse::<Address>(),
            Err(InvalidAddress::Https)
        );
    }
}
