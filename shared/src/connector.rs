//! How connections to a coordinator are made.

use std::fmt;
use std::sync::Arc;

use tonic::transport::{Channel, Endpoint};

/// How channels are made, which a simulated network does in its own way. The endpoint comes with address and time limits.
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
