//! Connections as a server takes them: with TLS, without, and who is at the other end.

use std::fs::Metadata;
use std::io::{self, IoSlice};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConfig;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use crate::certificate::Certificate;
use crate::credentials::Credentials;
use crate::folder::warn_of_expiry;
use crate::{KeyError, KeyFolder, Role};

pub use crate::certificate::Holder;

/// First byte of a TLS connection.
const HANDSHAKE: u8 = 0x16;

/// A server's keys. Renewed ones are used from the next connection on.
#[derive(Debug)]
pub struct ServerKeys {
    folder: KeyFolder,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    files: Vec<FileVersion>,
    looked_at: Instant,
    expires: OffsetDateTime,
    warned_at: Instant,
}

/// How often people are told that the certificate expires soon.
const WARN_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// How often the files are looked at, at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A file as it was when it was read.
#[derive(Debug, PartialEq, Eq)]
struct FileVersion {
    path: PathBuf,
    modified: Option<SystemTime>,
    length: Option<u64>,
    /// Another one for a file that has replaced it, however soon.
    inode: Option<u64>,
}

impl ServerKeys {
    /// Reads the coordinator's keys.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn read(folder: &KeyFolder) -> Result<Self, KeyError> {
        let current = Mutex::new(Current::read(folder)?);
        Ok(Self {
            folder: folder.clone(),
            current,
        })
    }

    /// The keys as they are now. While new ones cannot be used, the old ones are.
    fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked_at.elapsed() < LOOK_INTERVAL {
            return Arc::clone(&current.config);
        }
        current.looked_at = Instant::now();
        if current.warned_at.elapsed() > WARN_INTERVAL {
            current.warned_at = Instant::now();
            warn_of_expiry(&self.folder.certificate(Role::Coordinator), current.expires);
        }
        let files = versions(&self.folder);
        if files != current.files {
            match Current::read(&self.folder) {
                Ok(read) => {
                    tracing::info!(folder = %self.folder.path().display(), "the keys were renewed");
                    *current = read;
                }
                Err(error) => {
                    tracing::warn!(%error, "the keys have changed, and cannot be used");
                    current.files = files;
                }
            }
        }
        Arc::clone(&current.config)
    }
}

impl Current {
    fn read(folder: &KeyFolder) -> Result<Self, KeyError> {
        let files = versions(folder);
        let path = folder.certificate(Role::Coordinator);
        let credentials = Credentials::read(folder, Role::Coordinator)?;
        let expires = credentials.expires;
        warn_of_expiry(&path, expires);
        let config = Arc::new(credentials.server(&path)?);
        Ok(Self {
            config,
            files,
            looked_at: Instant::now(),
            expires,
            warned_at: Instant::now(),
        })
    }
}

fn versions(folder: &KeyFolder) -> Vec<FileVersion> {
    let files = [
        folder.authority(),
        folder.certificate(Role::Coordinator),
        folder.private_key(Role::Coordinator),
    ];
    let version = |path: PathBuf| {
        let metadata = path.metadata().ok();
        FileVersion {
            modified: metadata.as_ref().and_then(|m| m.modified().ok()),
            length: metadata.as_ref().map(Metadata::len),
            inode: metadata.as_ref().map(MetadataExt::ino),
            path,
        }
    };
    files.map(version).into()
}

/// Who is at the other end of a connection; known once its first bytes have come.
#[derive(Clone, Debug, Default)]
pub struct Peer(Arc<Shown>);

#[derive(Debug, Default)]
struct Shown {
    holder: OnceLock<Holder>,
    encrypted: OnceLock<()>,
}

impl Peer {
    /// The holder of the certificate that it has shown, and which the authority has issued.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        self.0.holder.get()
    }

    /// Whether nobody reads along: the connection speaks TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.0.encrypted.get().is_some()
    }
}

/// A connection, encrypted or not.
#[derive(Debug)]
pub struct Stream {
    state: State,
    peer: Peer,
}

enum State {
    /// Nothing has come yet that tells whether it speaks TLS.
    New(TcpStream, Arc<ServerKeys>),
    Handshake(Box<Accept<TcpStream>>),
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
    /// The handshake failed.
    Closed,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::New(..) => "New",
            Self::Handshake(_) => "Handshake",
            Self::Tls(_) => "Tls",
            Self::Plain(_) => "Plain",
            Self::Closed => "Closed",
        })
    }
}

impl Stream {
    /// A connection that speaks TLS, if there are keys. One that does not is taken nevertheless: its peer
    /// remains unknown, and the services can tell it why they refuse it.
    #[must_use]
    pub fn new(tcp: TcpStream, keys: Option<&Arc<ServerKeys>>) -> Self {
        let state = match keys {
            Some(keys) => State::New(tcp, Arc::clone(keys)),
            None => State::Plain(tcp),
        };
        Self {
            state,
            peer: Peer::default(),
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer.clone()
    }

    /// Completes the handshake.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut dyn Io>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Closed) {
                State::New(tcp, keys) => {
                    let mut first = [0];
                    let mut buffer = ReadBuf::new(&mut first);
                    let polled = tcp.poll_peek(cx, &mut buffer);
                    if polled.is_pending() {
                        self.state = State::New(tcp, keys);
                        return Poll::Pending;
                    }
                    let read = ready!(polled)?;
                    self.state = match read > 0 && first[0] == HANDSHAKE {
                        true => {
                            let acceptor = TlsAcceptor::from(keys.config());
                            State::Handshake(Box::new(acceptor.accept(tcp)))
                        }
                        false => State::Plain(tcp),
                    };
                }
                State::Handshake(mut accept) => match Pin::new(&mut *accept).poll(cx) {
                    Poll::Pending => {
                        self.state = State::Handshake(accept);
                        return Poll::Pending;
                    }
                    Poll::Ready(accepted) => {
                        let tls = accepted?;
                        let _ = self.peer.0.encrypted.set(());
                        if let Some(holder) = holder(&tls) {
                            let _ = self.peer.0.holder.set(holder);
                        }
                        self.state = State::Tls(Box::new(tls));
                    }
                },
                open => {
                    self.state = open;
                    break;
                }
            }
        }
        Poll::Ready(match &mut self.state {
            State::Tls(tls) => Ok(Pin::new(&mut **tls)),
            State::Plain(tcp) => Ok(Pin::new(tcp)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

/// The holder of the certificate that the peer has shown, if any.
fn holder(tls: &TlsStream<TcpStream>) -> Option<Holder> {
    let shown = tls.get_ref().1.peer_certificates()?.first()?;
    Certificate::read(shown).ok()?.holder
}

/// Bytes both ways.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_ready(cx))?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?.poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.state {
            State::Tls(_) | State::Plain(_) => ready!(self.poll_ready(cx))?.poll_flush(cx),
            // Nothing was written yet.
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.state {
            State::Tls(_) | State::Plain(_) => ready!(self.poll_ready(cx))?.poll_shutdown(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}
