//! Connections to the coordinator: no more than there are file descriptors for, and none that asks nothing.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use quartet_identity::server::{Holder, Peer, ServerKeys, Stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

/// File descriptors that are kept for the store, the logs and the local workers.
const KEPT_BACK: u64 = 32;

/// Most connections at a time: more than the largest fleet has workers, and each costs memory.
const MAX_CONNECTIONS: u64 = 16_384;

/// How long a new connection may take until its first call that is answered.
const FIRST_CALL: Duration = Duration::from_secs(10);

/// The same while more than half of the connections are taken: who asks nothing makes room for others.
const FIRST_CALL_WHEN_CROWDED: Duration = Duration::from_secs(1);

/// Wait after the system refused to accept a connection.
const PAUSE: Duration = Duration::from_millis(500);

/// Raises the limit of open files as far as this process may, and returns how many there may be.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays");
            limit.current
        }
    };
    allowed.unwrap_or(u64::MAX)
}

/// The connections that a listener accepts, encrypted where there are keys.
pub fn incoming(
    listener: TcpListener,
    keys: Option<ServerKeys>,
) -> impl futures::Stream<Item = io::Result<Connection>> + Send {
    let keys = keys.map(Arc::new);
    let most = raise_open_files().saturating_sub(KEPT_BACK);
    let most = usize::try_from(most.clamp(1, MAX_CONNECTIONS)).unwrap_or(1);
    let permits = Arc::new(Semaphore::new(most));
    let state = (listener, permits, keys, false);
    futures::stream::unfold(state, move |(listener, permits, keys, told)| async move {
        let full = permits.available_permits() == 0;
        if full && !told {
            tracing::warn!(
                most,
                "all connections are taken; new ones wait (see `ulimit -n`)"
            );
        }
        let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
        let stream = Stream::new(accept(&listener).await, keys.as_ref());
        let first_call = match permits.available_permits() < most / 2 {
            true => FIRST_CALL_WHEN_CROWDED,
            false => FIRST_CALL,
        };
        let connection = Connection {
            info: ConnectionInfo {
                called: Arc::default(),
                peer: stream.peer(),
            },
            stream,
            first_call: Some(Box::pin(tokio::time::sleep(first_call))),
            _permit: permit,
        };
        // Said once: strangers who come and go do not fill the log.
        Some((Ok(connection), (listener, permits, keys, told || full)))
    })
}

/// The next connection. Where the system has no room for it, waits until there is some.
async fn accept(listener: &TcpListener) -> TcpStream {
    let mut told = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // It matters for speed alone.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            // The other side has gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "cannot accept connections; trying again");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// What the services know of a connection.
#[derive(Clone, Debug, Default)]
pub struct ConnectionInfo {
    called: Arc<AtomicBool>,
    peer: Peer,
}

impl ConnectionInfo {
    /// A call has come that is answered.
    pub fn set_called(&self) {
        self.called.store(true, Ordering::Relaxed);
    }

    /// Whether nobody reads along.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.peer.is_encrypted()
    }

    /// Who is at the other end, if keys are used and it has shown one.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        self.peer.holder()
    }
}

/// A connection, which ends if its first call does not come in time.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    first_call: Option<Pin<Box<Sleep>>>,
    info: ConnectionInfo,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl Connection {
    /// Fails once the first call is overdue. Every use of the connection asks, writing ones, too: a peer that
    /// sends nothing keeps a handshake from reading, and one that reads nothing keeps a server from it.
    fn check_first_call(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.info.called.load(Ordering::Relaxed) {
            self.first_call = None;
        }
        if let Some(first_call) = &mut self.first_call
            && first_call.as_mut().poll(cx).is_ready()
        {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_first_call(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_first_call(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_first_call(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_first_call(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_first_call(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
