//! The channel to the coordinator and its time limits.

use std::time::Duration;

use anyhow::Context;
use tonic::transport::{Channel, Endpoint};

/// Longest time for a call that moves no large data.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A channel that connects when it is first used, and again whenever it has to.
pub(super) fn channel(coordinator: &str) -> anyhow::Result<Channel> {
    let url = if coordinator.contains("://") {
        coordinator.to_owned()
    } else {
        format!("http://{coordinator}")
    };
    let endpoint = Endpoint::from_shared(url)
        .with_context(|| format!("{coordinator:?} is not an address; use HOST:PORT"))?
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_lazy())
}
