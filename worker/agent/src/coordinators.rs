//! The coordinators that a worker may have, of which one leads, and the time limits of talking to it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use quartet_proto::channel::{Connector, endpoint};
use quartet_proto::v1::fleet_client::FleetClient;
use quartet_shared::address::Address;
use tonic::transport::Channel;

/// Longest time for a call that moves no large data.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for the next bytes of an object.
pub(super) const CHUNK_TIMEOUT: Duration = Duration::from_secs(60);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a silent connection is checked.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// The way to the current coordinator. Clones turn to the next one together.
#[derive(Clone)]
pub(super) struct Coordinators {
    addresses: Arc<[Address]>,
    connector: Connector,
    current: Arc<Mutex<Current>>,
}

struct Current {
    index: usize,
    channel: Channel,
}

impl Coordinators {
    /// Begins with the first of the addresses. Nothing is connected yet.
    pub(super) fn new(addresses: &[Address], connector: Connector) -> anyhow::Result<Self> {
        ensure!(!addresses.is_empty(), "no coordinator is named");
        let channel = channel(&addresses[0], &connector)?;
        Ok(Self {
            addresses: addresses.into(),
            connector,
            current: Arc::new(Mutex::new(Current { index: 0, channel })),
        })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of the current coordinator.
    pub(super) fn client(&self) -> FleetClient<Channel> {
        FleetClient::new(self.current().channel.clone())
    }

    /// Turns to the next address, if there is another.
    pub(super) fn next(&self) {
        if self.addresses.len() < 2 {
            return;
        }
        let mut current = self.current();
        let index = (current.index + 1) % self.addresses.len();
        match channel(&self.addresses[index], &self.connector) {
            Ok(channel) => *current = Current { index, channel },
            Err(error) => {
                let (address, error) = (&self.addresses[index], format!("{error:#}"));
                tracing::error!(%address, error, "cannot use an address");
            }
        }
    }
}

impl fmt::Debug for Coordinators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&*self.addresses).finish()
    }
}

impl fmt::Display for Coordinators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        f.write_str(&addresses.join(" or "))
    }
}

/// A channel that connects when it is first used, and again whenever it has to.
fn channel(address: &Address, connector: &Connector) -> anyhow::Result<Channel> {
    let endpoint = endpoint(address.uri(), CONNECT_TIMEOUT, KEEP_ALIVE_INTERVAL)?;
    Ok(connector.channel(endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_next_address_follows_the_last_one_around() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connector = {
            let seen = Arc::clone(&seen);
            Connector::new(
                move |endpoint| {
                    let uri = endpoint.uri().to_string();
                    seen.lock().unwrap().push(uri);
                    endpoint.connect_lazy()
                },
                |endpoint| Box::pin(async move { endpoint.connect().await }),
            )
        };
        let addresses = ["a:1", "b:2"].map(|address| address.parse().unwrap());
        let coordinators = Coordinators::new(&addresses, connector.clone()).unwrap();
        assert_eq!(coordinators.to_string(), "a:1 or b:2");
        let clone = coordinators.clone();
        coordinators.next();
        assert_eq!(clone.current().index, 1);
        clone.next();
        assert_eq!(coordinators.current().index, 0);
        assert_eq!(
            *seen.lock().unwrap(),
            ["http://a:1/", "http://b:2/", "http://a:1/"]
        );
        assert!(Coordinators::new(&[], connector).is_err());
    }
}
