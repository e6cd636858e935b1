//! The TLS configuration of the endpoint listeners.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::ca::{CaError, CertificateAuthority};
use crate::serve::TlsError;

/// HTTP/2 and HTTP/1.1, with a wildcard certificate that renews itself and session tickets, so that a client's next connection
/// costs one signature less.
pub(crate) fn server_config(authority: CertificateAuthority, suffix: &str) -> Result<ServerConfig, TlsError> {
    let certificate = EndpointCertificate::new(authority, suffix)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

/// The certificate in use. It is renewed by the handshake that finds it old.
struct EndpointCertificate {
    authority: CertificateAuthority,
    suffix: String,
    current: RwLock<(Arc<CertifiedKey>, Timestamp)>,
}

impl EndpointCertificate {
    fn new(authority: CertificateAuthority, suffix: &str) -> Result<Self, TlsError> {
        let current = RwLock::new(issue(&authority, suffix)?);
        Ok(Self { authority, suffix: suffix.to_owned(), current })
    }

    fn get(&self, now: Timestamp) -> Arc<CertifiedKey> {
        let (current, renew_at) = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        if now < renew_at {
            return current;
        }
        match issue(&self.authority, &self.suffix) {
            Ok(renewed) => {
                let key = Arc::clone(&renewed.0);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = renewed;
                key
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the endpoint certificate is not renewed"
                );
                current
            }
        }
    }
}

fn issue(authority: &CertificateAuthority, suffix: &str) -> Result<(Arc<CertifiedKey>, Timestamp), TlsError> {
    let issued = authority.issue(suffix).map_err(TlsError::Authority)?;
    let key = aws_lc_rs::sign::any_supported_type(&issued.key)?;
    Ok((Arc::new(CertifiedKey::new(vec![issued.certificate], key)), issued.renew_at))
}

impl ResolvesServerCert for EndpointCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get(Timestamp::now()))
    }
}

impl fmt::Debug for EndpointCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointCertificate").field("suffix", &self.suffix).finish_non_exhaustive()
    }
}

impl From<CaError> for TlsError {
    fn from(error: CaError) -> Self {
        Self::Authority(error)
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn the_certificate_is_renewed_before_it_expires() {
        let data = tempfile::tempdir().unwrap();
        let certificate =
            EndpointCertificate::new(CertificateAuthority::open(data.path()).unwrap(), "example.test")
                .unwrap();
        let now = Timestamp::now();
        let first = certificate.get(now);
        assert!(Arc::ptr_eq(&first, &certificate.get(now + SignedDuration::from_hours(24 * 59))));
        let renewed = certificate.get(now + SignedDuration::from_hours(24 * 61));
        assert_ne!(first.cert, renewed.cert);
        assert!(Arc::ptr_eq(&renewed, &certificate.get(now)), "the renewed one stays");
    }
}
