//! The channel to the coordinator and its time limits.

use std::time::Duration;

use anyhow::Context;
use tonic::transport::{Channel, Endpoint, Uri};

/// Longest time for a call that moves no large data.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The port of a coordinator that is given without one.
const DEFAULT_PORT: u16 = 50051;

/// A channel that connects when it is first used, and again whenever it has to.
pub(super) fn channel(coordinator: &str) -> anyhow::Result<Channel> {
    let url = if coordinator.contains("://") {
        coordinator.to_owned()
    } else {
        format!("http://{coordinator}")
    };
    let invalid = || format!("{coordinator:?} is not an address; use HOST:PORT");
    let uri: Uri = url.parse().with_context(invalid)?;
    let url = match uri.port() {
        Some(_) => url,
        None => format!("{}:{DEFAULT_PORT}", url.trim_end_matches('/')),
    };
    let endpoint = Endpoint::from_shared(url)
        .with_context(invalid)?
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_lazy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_checked_before_it_is_used() {
        for good in [
            "host",
            "host:1",
            "http://host:1",
            "http://host/",
            "[::1]:50051",
        ] {
            channel(good).unwrap();
        }
        for bad in ["", "host:99999", "host:port", "a b"] {
            let error = format!("{:#}", channel(bad).unwrap_err());
            assert!(
                error.contains(&format!("{bad:?}")) && error.contains("HOST:PORT"),
                "{error}"
            );
        }
    }
}
