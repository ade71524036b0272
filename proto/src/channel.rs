//! Connections to a coordinator: the one place where client channels are made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint, Error};

use crate::MAX_FRAME_SIZE;

/// How long a connected coordinator may take to answer a keep-alive.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a client connects to, and how long it waits: `connect_timeout` for a connection, and a connection
/// that is silent for `keep_alive` is asked whether it still stands.
///
/// # Errors
/// `uri` is no URI.
pub fn endpoint(
    uri: String,
    connect_timeout: Duration,
    keep_alive: Duration,
) -> Result<Endpoint, Error> {
    Ok(Endpoint::from_shared(uri)?
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .max_frame_size(MAX_FRAME_SIZE)
        .http2_keep_alive_interval(keep_alive)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// How an endpoint becomes a channel, which a simulated network does in its own way.
#[derive(Clone)]
pub struct Connector(Arc<dyn Fn(Endpoint) -> Channel + Send + Sync>);

impl Connector {
    /// Over TCP. The channel connects when it is first used, and again whenever it has to.
    #[must_use]
    pub fn tcp() -> Self {
        Self::new(|endpoint| endpoint.connect_lazy())
    }

    /// With `connect`, which is to make a channel that connects as [`Self::tcp`]'s does.
    #[must_use]
    pub fn new(connect: impl Fn(Endpoint) -> Channel + Send + Sync + 'static) -> Self {
        Self(Arc::new(connect))
    }

    /// A channel to this endpoint.
    #[must_use]
    pub fn channel(&self, endpoint: Endpoint) -> Channel {
        self.0(endpoint)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}
