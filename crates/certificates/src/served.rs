//! What TLS asks at each handshake.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::certificate::Certificate;

/// The certificate that new connections are shown; it changes without a restart.
#[derive(Debug)]
pub struct ServedCertificate {
    current: ArcSwap<CertifiedKey>,
}

impl ServedCertificate {
    pub(crate) fn new(certificate: &Certificate) -> Arc<Self> {
        Arc::new(Self { current: ArcSwap::new(Arc::clone(&certificate.key)) })
    }

    pub(crate) fn replace(&self, certificate: &Certificate) {
        self.current.store(Arc::clone(&certificate.key));
    }

    #[cfg(test)]
    pub(crate) fn current(&self) -> Arc<CertifiedKey> {
        self.current.load_full()
    }
}

impl ResolvesServerCert for ServedCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}
