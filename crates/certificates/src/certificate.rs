//! A certificate with its chain and key, checked.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;

/// Why a certificate is not used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that should hold certificates holds none.
    #[error("{} holds no certificate in PEM form", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The first certificate of a file is not X.509.
    #[error("the first certificate in {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A file that should hold a key holds none that can be used.
    #[error("{} holds no private key in PEM form that TLS can use", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not belong together.
    #[error("the key in {} is not that of the first certificate in {}", key.display(), chain.display())]
    OtherKey {
        /// File with the certificate.
        chain: PathBuf,
        /// File with the key.
        key: PathBuf,
    },
    /// It is for other names.
    #[error("the certificate in {} is for {names}, not for *.{suffix}", path.display())]
    OtherNames {
        /// The file.
        path: PathBuf,
        /// Its names.
        names: String,
        /// Domain of the endpoints.
        suffix: String,
    },
}

/// A certificate that may be served.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

impl Certificate {
    /// Reads a chain (the server's certificate first) and a key from PEM files, which may
    /// be the same one, and checks that they belong together and are for every name
    /// directly below `suffix`.
    pub(crate) fn read(chain: &Path, key: &Path, suffix: &str) -> Result<Self, CertificateError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| CertificateError::File { path: path.to_owned(), source })
        };
        Self::parse((chain, &read(chain)?), (key, &read(key)?), suffix)
    }

    /// Reads and checks chain and key from their texts; the paths are for messages.
    pub(crate) fn parse(
        (chain_path, chain): (&Path, &[u8]),
        (key_path, key): (&Path, &[u8]),
        suffix: &str,
    ) -> Result<Self, CertificateError> {
        let path = || chain_path.to_owned();
        let no_key = || CertificateError::NoKey { path: key_path.to_owned() };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| CertificateError::NoCertificate { path: path() })?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| no_key())?;
        let key = any_supported_type(&key).map_err(|_| no_key())?;
        let damaged = || CertificateError::Damaged { path: path() };
        let (_, first) = x509_parser::parse_x509_certificate(&chain[0]).map_err(|_| damaged())?;
        let names: Vec<&str> = match first.subject_alternative_name().map_err(|_| damaged())? {
            Some(names) => names.value.general_names.iter().filter_map(dns_name).collect(),
            None => Vec::new(),
        };
        let wanted = format!("*.{suffix}");
        if !names.iter().any(|name| name.eq_ignore_ascii_case(&wanted)) {
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            return Err(CertificateError::OtherNames { path: path(), names, suffix: suffix.to_owned() });
        }
        let validity = first.validity();
        let moment = |seconds| Timestamp::from_second(seconds).map_err(|_| damaged());
        let not_before = moment(validity.not_before.timestamp())?;
        let not_after = moment(validity.not_after.timestamp())?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match()
            .map_err(|_| CertificateError::OtherKey { chain: path(), key: key_path.to_owned() })?;
        Ok(Self { key: Arc::new(key), not_before, not_after })
    }

    /// When a third of its life is left.
    pub(crate) fn renew_at(&self) -> Timestamp {
        self.not_before + self.not_after.duration_since(self.not_before) * 2 / 3
    }
}

fn dns_name<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::DNSName(name) => Some(name),
        _ => None,
    }
}
