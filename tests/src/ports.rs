//! Ports for programs that have to listen where they did before.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that systems give to outgoing connections: nothing takes one while its program is started
/// again.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// An address on this machine that nobody listens on.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests in other processes begin elsewhere.
    let begin = std::process::id().wrapping_mul(97) % u32::from(COUNT);
    for _ in 0..COUNT {
        let next = begin + u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from(next % u32::from(COUNT)).expect("less than the count");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + offset));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}
