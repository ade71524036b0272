//! The files that a program shows itself with.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use time::OffsetDateTime;

use crate::certificate::Certificate;
use crate::{KeyError, KeyFolder, Role, provider};

/// HTTP/2, which is all that is spoken.
const ALPN: &[u8] = b"h2";

/// A certificate, its key, and the authority of both sides.
pub(crate) struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    pub(crate) expires: OffsetDateTime,
}

impl Credentials {
    /// Reads the keys of a role, which must not have expired.
    pub(crate) fn read(folder: &KeyFolder, role: Role) -> Result<Self, KeyError> {
        let credentials = Self::read_of_any_age(folder, role)?;
        let (path, on) = (folder.certificate(role), credentials.expires);
        match on <= OffsetDateTime::now_utc() {
            true => Err(KeyError::Expired { path, on }),
            false => Ok(credentials),
        }
    }

    pub(crate) fn read_of_any_age(folder: &KeyFolder, role: Role) -> Result<Self, KeyError> {
        let path = folder.certificate(role);
        let chain = certificates(&path)?;
        let Certificate { holder, expires } = Certificate::of_file(&path, &chain[0])?;
        if holder.is_none_or(|holder| holder.role != role) {
            return Err(KeyError::invalid(
                path,
                format!("it is no {role}'s certificate"),
            ));
        }
        let key_path = folder.private_key(role);
        let key =
            PrivateKeyDer::from_pem_file(&key_path).map_err(|error| of_pem(&key_path, error))?;
        let ca_path = folder.authority();
        let authorities = certificates(&ca_path)?;
        if !Certificate::is_issued_by(&chain[0], &authorities) {
            let problem = format!(
                "it was not issued by the authority of {}",
                ca_path.display()
            );
            return Err(KeyError::invalid(path, problem));
        }
        let mut roots = RootCertStore::empty();
        for certificate in authorities {
            roots
                .add(certificate)
                .map_err(|error| KeyError::invalid(&ca_path, error))?;
        }
        Ok(Self {
            chain,
            key,
            roots: Arc::new(roots),
            expires,
        })
    }

    /// How a client shows them.
    pub(crate) fn client(self, path: &Path) -> Result<ClientConfig, KeyError> {
        let invalid = |error: rustls::Error| KeyError::invalid(path, error);
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(invalid)?;
        let mut config = builder
            .with_root_certificates(self.roots)
            .with_client_auth_cert(self.chain, self.key)
            .map_err(invalid)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    /// How a server shows them. Clients are asked for theirs; who has none is told so by the services.
    pub(crate) fn server(self, path: &Path) -> Result<ServerConfig, KeyError> {
        let invalid = |error: rustls::Error| KeyError::invalid(path, error);
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots, provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| KeyError::invalid(path, error))?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(invalid)?;
        let mut config = builder
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain, self.key)
            .map_err(invalid)?;
        // Workers and `status` speak HTTP/2, as do browsers; some tools do not.
        config.alpn_protocols = vec![ALPN.to_vec(), b"http/1.1".to_vec()];
        // Each connection shows its certificate anew: one that has expired since does not come in.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }
}

/// The certificates of a file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, KeyError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| of_pem(path, error))?;
    if certificates.is_empty() {
        return Err(KeyError::invalid(path, "there is no certificate in it"));
    }
    Ok(certificates)
}

fn of_pem(path: &Path, error: rustls::pki_types::pem::Error) -> KeyError {
    match error {
        rustls::pki_types::pem::Error::Io(reason) => KeyError::File {
            action: "read",
            path: path.to_owned(),
            reason,
        },
        error => KeyError::invalid(path, error),
    }
}
