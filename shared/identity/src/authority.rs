//! The certificate authority of a fleet.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::{KeyError, Role};

/// How long an authority is good for.
const AUTHORITY_DAYS: i64 = 3650;
/// Clocks of a fleet may differ by so much.
const CLOCK_SKEW: Duration = Duration::hours(24);

/// An authority and its private key.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    expires: OffsetDateTime,
}

impl Authority {
    /// A new authority: it, its certificate and its private key, both as PEM.
    pub(crate) fn new() -> Result<(Self, String, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Quartet's certificate authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + Duration::days(AUTHORITY_DAYS);
        params.serial_number = Some(serial_number());
        let certificate = params.self_signed(&key)?.pem();
        let private = key.serialize_pem();
        let authority = Self {
            expires: params.not_after,
            issuer: Issuer::new(params, key),
        };
        Ok((authority, certificate, private))
    }

    /// An authority from its files' texts; `path` is the private key's.
    pub(crate) fn from_pem(
        certificate: &str,
        key: &str,
        expires: OffsetDateTime,
        path: &Path,
    ) -> Result<Self, KeyError> {
        let invalid = |error: rcgen::Error| KeyError::invalid(path, error);
        let key = KeyPair::from_pem(key).map_err(invalid)?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(invalid)?;
        Ok(Self { issuer, expires })
    }

    /// A certificate for the holder of `key`, as PEM. None outlives its authority.
    pub(crate) fn issue(
        &self,
        name: &str,
        role: Role,
        days: u32,
        key: &KeyPair,
    ) -> Result<String, rcgen::Error> {
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::new([role.dns_name().to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = now - CLOCK_SKEW;
        params.not_after = (now + Duration::days(days.into())).min(self.expires);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if role == Role::Coordinator {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial_number());
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }
}

fn serial_number() -> SerialNumber {
    let mut bytes = rand::random::<[u8; 16]>();
    // It is a positive number that does not begin with a zero.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}
