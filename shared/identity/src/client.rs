//! Connections of which both sides show a certificate, as clients open them.

use std::error::Error;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper_util::rt::TokioIo;
use quartet_proto::channel::Connector;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, Error as TlsError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Uri;
use tower::service_fn;

use crate::credentials::Credentials;
use crate::{KeyError, KeyFolder, Role};

/// Opens connections with the keys of a role, which are read anew for each: one that was renewed meanwhile is
/// used.
///
/// # Errors
/// The keys cannot be used.
pub fn connector(folder: &KeyFolder, role: Role) -> Result<Connector, KeyError> {
    let path = folder.certificate(role);
    let credentials = Credentials::read(folder, role)?;
    // A coordinator is told as a server.
    if role != Role::Coordinator {
        crate::folder::warn_of_expiry(&path, credentials.expires);
    }
    credentials.client(&path)?;
    let folder = Arc::new(folder.clone());
    let service = service_fn(move |uri: Uri| {
        let folder = Arc::clone(&folder);
        async move {
            let connected = connect(&folder, role, &uri).await;
            connected.map(|stream| TokioIo::new(Encrypted(stream)))
        }
    });
    let eager = service.clone();
    Ok(Connector::new(
        move |endpoint| endpoint.connect_with_connector_lazy(service.clone()),
        move |endpoint| {
            let service = eager.clone();
            Box::pin(async move { endpoint.connect_with_connector(service).await })
        },
    ))
}

pub(crate) async fn connect(
    folder: &KeyFolder,
    role: Role,
    uri: &Uri,
) -> io::Result<TlsStream<TcpStream>> {
    let path = folder.certificate(role);
    let config = Credentials::read(folder, role)
        .and_then(|credentials| credentials.client(&path))
        .map_err(io::Error::other)?;
    shake_hands(folder, config, uri).await
}

pub(crate) async fn shake_hands(
    folder: &KeyFolder,
    config: ClientConfig,
    uri: &Uri,
) -> io::Result<TlsStream<TcpStream>> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let tcp = TcpStream::connect((host, uri.port_u16().unwrap_or_default())).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(Role::Coordinator.dns_name()).map_err(io::Error::other)?;
    let connected = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await;
    connected.map_err(|error| explained(folder, error))
}

/// A connection whose end is an end, whether the other side said so before or was killed: HTTP/2 knows by
/// itself what is missing.
struct Encrypted(TlsStream<TcpStream>);

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.0).poll_read(cx, buffer)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            read => Poll::Ready(read),
        }
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// What people can do about a handshake that failed.
fn explained(folder: &KeyFolder, error: io::Error) -> io::Error {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<TlsError>());
    let reason = match tls {
        Some(TlsError::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => format!(
            "its certificate was not issued by the authority of {}: both sides need keys of one authority",
            folder.path().display()
        ),
        Some(TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => {
            "its certificate has expired; renew it there with `coordinator keys renew`".to_owned()
        }
        Some(TlsError::InvalidCertificate(_)) => {
            format!("its certificate is not that of a coordinator: {error}")
        }
        Some(TlsError::InvalidMessage(_)) => {
            "it does not speak TLS: start it with keys and without --insecure, or this with --insecure"
                .to_owned()
        }
        _ => return error,
    };
    io::Error::new(error.kind(), TlsProblem(reason))
}

/// Why there is no TLS with a server that is there, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsProblem(String);

impl TlsProblem {
    /// The problem that is somewhere in the causes of an error.
    #[must_use]
    pub fn of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            let io = error.downcast_ref::<io::Error>();
            if let Some(problem) = io
                .and_then(io::Error::get_ref)
                .and_then(|e| e.downcast_ref())
            {
                return Some(problem);
            }
            cause = error.source();
        }
        None
    }
}
