//! The certificate of the endpoints: from an authority of our own, from the operator, or by ACME.
//!
//! All three end in a [`ServedCertificate`], which TLS asks at each handshake and which changes
//! while the server runs. A change for the worse never happens: what cannot be read, does not fit
//! its key or is for other names is logged, and the certificate before stays.
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
