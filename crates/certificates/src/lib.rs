//! The certificate of the endpoints: from our own authority, from the operator's files, or by ACME.
//!
//! All three keep a [`ServedCertificate`] up to date, which TLS asks at each handshake. It never
//! changes for the worse: a new certificate that cannot be read, does not fit its key or is for
//! other names is logged and ignored, and the earlier one stays.
//!
//! Reading order: [`served`], `certificate`, then [`own`], [`provided`], [`acme`].

pub mod acme;
mod ca;
mod certificate;
mod files;
pub mod own;
pub mod provided;
pub mod served;

pub use acme::{Acme, AcmeSettings, ChallengeRecords, ExternalAccount, RecordError, hook::Hook};
pub use ca::{CaError, CertificateAuthority};
pub use certificate::CertificateError;
pub use own::OwnCertificate;
pub use provided::ProvidedCertificate;
pub use served::ServedCertificate;
