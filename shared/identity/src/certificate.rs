//! What a certificate says.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{KeyError, Role};

/// Who holds a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The name for people.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// A certificate as far as we need it.
pub(crate) struct Certificate {
    pub(crate) holder: Option<Holder>,
    pub(crate) expires: OffsetDateTime,
}

impl Certificate {
    pub(crate) fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
        let name = parsed.subject().iter_common_name().next();
        let name = name.and_then(|name| name.as_str().ok()).unwrap_or_default();
        let names = parsed
            .subject_alternative_name()
            .map_err(|e| e.to_string())?;
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let role = Role::ALL.into_iter().find(|role| {
            let wanted = role.dns_name();
            names
                .iter()
                .any(|name| matches!(name, GeneralName::DNSName(name) if *name == wanted))
        });
        let holder = role.map(|role| Holder {
            name: name.to_owned(),
            role,
        });
        Ok(Self {
            holder,
            expires: parsed.validity().not_after.to_datetime(),
        })
    }

    /// Whether one of these authorities has issued it.
    pub(crate) fn is_issued_by(
        der: &CertificateDer<'_>,
        authorities: &[CertificateDer<'_>],
    ) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return false;
        };
        authorities.iter().any(|authority| {
            X509Certificate::from_der(authority).is_ok_and(|(_, authority)| {
                certificate
                    .verify_signature(Some(authority.public_key()))
                    .is_ok()
            })
        })
    }

    /// The certificate of a file, still valid or not.
    pub(crate) fn of_file(path: &Path, der: &CertificateDer<'_>) -> Result<Self, KeyError> {
        Self::read(der).map_err(|problem| KeyError::invalid(path, problem))
    }
}
