//! Another host on the same machine: a network namespace, joined with this one by a cable that can be cut.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

/// A host. Dropped, it is gone, with what runs on it cut off.
#[derive(Debug)]
pub struct Host {
    /// Of the namespace, and of the interface within it.
    name: String,
    /// This end of the cable.
    here: Ipv4Addr,
}

impl Host {
    /// Makes a host; says why where this machine does not permit it.
    pub fn add() -> Result<Self, String> {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let name = format!("qt{process:x}-{number}");
        // Of the range that is reserved for tests of networks (RFC 2544), four addresses for each host.
        let [_, _, _, low] = process.to_be_bytes();
        let [here, there] = [1, 2].map(|end| Ipv4Addr::new(198, 18, low, (number % 63) * 4 + end));
        ip(&["netns", "add", &name])?;
        // From here on it is deleted again if something fails.
        let host = Self { name, here };
        let (outer, inner) = (format!("{}o", host.name), &host.name[..]);
        ip(&[
            "link", "add", &outer, "type", "veth", "peer", "name", inner, "netns", inner,
        ])?;
        ip(&["address", "add", &format!("{here}/30"), "dev", &outer])?;
        ip(&["link", "set", &outer, "up"])?;
        ip(&[
            "-n",
            inner,
            "address",
            "add",
            &format!("{there}/30"),
            "dev",
            inner,
        ])?;
        host.set("up")?;
        Ok(host)
    }

    /// The address at which the host reaches this one.
    #[must_use]
    pub fn here(&self) -> Ipv4Addr {
        self.here
    }

    /// The command that has another program run there.
    #[must_use]
    pub fn launcher(&self) -> Command {
        let mut launcher = Command::new("ip");
        launcher.args(["netns", "exec", &self.name]);
        launcher
    }

    /// Cuts the cable: no packet comes through, and nobody is told.
    ///
    /// # Panics
    /// If that fails.
    pub fn cut(&self) {
        self.set("down").expect("the cable is there");
    }

    /// Mends the cable.
    ///
    /// # Panics
    /// If that fails.
    pub fn mend(&self) {
        self.set("up").expect("the cable is there");
    }

    fn set(&self, state: &str) -> Result<(), String> {
        ip(&["-n", &self.name, "link", "set", &self.name, state])
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("ip: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {}", arguments.join(" "), reason.trim()))
}
