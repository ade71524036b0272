//! Connections to a coordinator: the one place where client channels are made.

use std::fmt;
use std::pin::Pin;
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

type Connecting = Pin<Box<dyn Future<Output = Result<Channel, Error>> + Send>>;

/// How an endpoint becomes a channel, with TLS or without; a simulated network does it in its own way.
#[derive(Clone)]
pub struct Connector {
    lazy: Arc<dyn Fn(Endpoint) -> Channel + Send + Sync>,
    eager: Arc<dyn Fn(Endpoint) -> Connecting + Send + Sync>,
}

impl Connector {
    /// Over TCP.
    #[must_use]
    pub fn tcp() -> Self {
        Self::new(
            |endpoint| endpoint.connect_lazy(),
            |endpoint| Box::pin(async move { endpoint.connect().await }),
        )
    }

    /// With two functions that make channels: one that connects when it is first used, and one that is
    /// connected. Both connect again whenever they have to.
    #[must_use]
    pub fn new(
        lazy: impl Fn(Endpoint) -> Channel + Send + Sync + 'static,
        eager: impl Fn(Endpoint) -> Connecting + Send + Sync + 'static,
    ) -> Self {
        Self {
            lazy: Arc::new(lazy),
            eager: Arc::new(eager),
        }
    }

    /// A channel to this endpoint, which connects when it is first used.
    #[must_use]
    pub fn channel(&self, endpoint: Endpoint) -> Channel {
        (self.lazy)(endpoint)
    }

    /// A channel that is connected to this endpoint.
    ///
    /// # Errors
    /// Nobody answers there, or not as expected.
    pub async fn connect(&self, endpoint: Endpoint) -> Result<Channel, Error> {
        (self.eager)(endpoint).await
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}
