//! A certificate of our own authority, renewed by itself.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::ca::{CaError, CertificateAuthority};
use crate::served::ServedCertificate;

/// Time between two looks whether to renew.
const PERIOD: Duration = Duration::from_hours(1);

/// The authority, and what it has signed last.
#[derive(Debug)]
pub struct OwnCertificate {
    authority: CertificateAuthority,
    suffix: String,
    served: Arc<ServedCertificate>,
    renew_at: Timestamp,
}

impl OwnCertificate {
    /// Makes a certificate for every name directly below `suffix`.
    pub fn issue(authority: CertificateAuthority, suffix: &str) -> Result<Self, CaError> {
        let issued = authority.issue(suffix)?;
        Ok(Self {
            suffix: suffix.to_owned(),
            served: ServedCertificate::new(&issued),
            renew_at: issued.renew_at(),
            authority,
        })
    }

    /// What TLS is to be given.
    pub fn served(&self) -> Arc<ServedCertificate> {
        Arc::clone(&self.served)
    }

    /// Renews it whenever two thirds of its life are over, until this is cancelled.
    pub async fn keep_renewing(mut self) {
        loop {
            self.renew_if_due(Timestamp::now());
            tokio::time::sleep(PERIOD).await;
        }
    }

    pub(crate) fn renew_if_due(&mut self, now: Timestamp) {
        if now < self.renew_at {
            return;
        }
        match self.authority.issue(&self.suffix) {
            Ok(renewed) => {
                self.renew_at = renewed.renew_at();
                self.served.replace(&renewed);
            }
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "the endpoint certificate is not renewed"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn it_is_renewed_before_it_expires() {
        let data = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::open(data.path()).unwrap();
        let mut own = OwnCertificate::issue(authority, "example.test").unwrap();
        let (now, first) = (Timestamp::now(), own.served().current());
        own.renew_if_due(now + SignedDuration::from_hours(24 * 58));
        assert!(Arc::ptr_eq(&first, &own.served().current()));
        own.renew_if_due(now + SignedDuration::from_hours(24 * 61));
        assert_ne!(first.cert, own.served().current().cert);
    }
}
