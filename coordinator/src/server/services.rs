//! All that is served on one port: the gRPC services, the page, and what monitoring asks for.

use std::sync::Arc;
use std::time::Duration;

use axum::middleware::from_fn;
use futures::Stream;
use quartet_identity::Access;
use quartet_identity::session::Sessions;
use quartet_proto::v1::fleet_server::FleetServer;
use quartet_proto::v1::queue_server::QueueServer;
use quartet_proto::v1::status_server::StatusServer;
use quartet_proto::{MAX_FRAME_SIZE, MAX_MESSAGE_SIZE};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::fleet_service::FleetService;
use super::queue_service::QueueService;
use super::registry::Registry;
use super::status_service::StatusService;
use super::timing::Timing;
use super::web;

/// Concurrent calls on one connection; a worker needs only a few.
const MAX_STREAMS: u32 = 100;
/// How long the services may take to answer their last calls.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// A server that runs until it is stopped.
pub(super) struct Services {
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    stop: watch::Sender<bool>,
}

impl Services {
    /// Serves the connections of `incoming`.
    pub(super) fn start<I, IO, E>(
        registry: &Arc<Registry>,
        queue: QueueService,
        timing: Timing,
        sessions: Option<Arc<Sessions>>,
        incoming: I,
    ) -> Self
    where
        I: Stream<Item = Result<IO, E>> + Send + 'static,
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let policy = registry.policy;
        let fleet = FleetService {
            registry: Arc::clone(registry),
            timing,
        };
        let status = StatusService {
            registry: Arc::clone(registry),
            sessions: sessions.clone(),
        };
        let pages = web::routes(registry, queue.runner.clone(), sessions);
        let fleet = FleetServer::new(fleet).max_decoding_message_size(MAX_MESSAGE_SIZE);
        let status = StatusServer::new(status).max_decoding_message_size(MAX_MESSAGE_SIZE);
        let queue = QueueServer::new(queue).max_decoding_message_size(MAX_MESSAGE_SIZE);
        let services = Routes::new(InterceptedService::new(fleet, policy.guard(Access::Work)))
            .add_service(InterceptedService::new(status, policy.guard(Access::Watch)))
            .add_service(InterceptedService::new(queue, policy.guard(Access::Watch)));
        let services = services.into_axum_router().layer(from_fn(web::only_grpc));
        let services = Routes::from(services.merge(pages));
        let (stop, mut stopped) = watch::channel(false);
        let server = Server::builder()
            // A silent connection is given up, but not before the lease has expired for the same silence.
            .http2_keepalive_interval(Some(timing.lease / 2))
            .http2_keepalive_timeout(Some(timing.lease))
            .max_concurrent_streams(MAX_STREAMS)
            .max_frame_size(MAX_FRAME_SIZE)
            // Browsers speak HTTP/1 where there is no TLS.
            .accept_http1(true)
            .add_routes(services)
            .serve_with_incoming_shutdown(incoming, async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            });
        Self {
            server: tokio::spawn(server),
            stop,
        }
    }

    /// Resolves with the reason when the server has failed.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        match (&mut self.server).await {
            Ok(Ok(())) => anyhow::anyhow!("the server ended by itself"),
            Ok(Err(error)) => anyhow::Error::from(error).context("the server failed"),
            Err(panic) => anyhow::Error::from(panic).context("the server panicked"),
        }
    }

    /// Takes no more calls, and answers the last.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(LAST_CALLS, &mut self.server)
            .await
            .is_err()
        {
            self.server.abort();
        }
    }
}
