//! The certificate authority of the endpoints: made at the first start, kept in the data directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::certificate::{Certificate, CertificateError};
use crate::files;

/// Life of the authority's certificate, in days.
const AUTHORITY_DAYS: i64 = 3650;
/// Life of an endpoint certificate, in days; clients of Apple refuse more than 398.
const ENDPOINT_DAYS: i64 = 90;
/// Certificates begin a day early, for clients whose clock is behind.
const EARLY_DAYS: i64 = 1;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file of the authority could not be read or written.
    #[error("could not read or write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key file holds no usable key, or a certificate could not be signed.
    #[error("could not use the certificate authority in {}", directory.display())]
    Unusable {
        /// The authority's directory.
        directory: PathBuf,
        /// Why.
        source: rcgen::Error,
    },
    /// What was signed cannot be served.
    #[error("the certificate that was signed cannot be used")]
    Issued(#[from] CertificateError),
}

/// The authority.
#[derive(Debug)]
pub struct CertificateAuthority {
    directory: PathBuf,
    key: KeyPair,
}

impl CertificateAuthority {
    /// Opens the authority in `directory`, or makes it: `ca.key` (mode 0600) and `ca.pem`.
    pub fn open(directory: &Path) -> Result<Self, CaError> {
        let unusable = |source| CaError::Unusable { directory: directory.to_owned(), source };
        let file_error = |path: &Path, source| CaError::File { path: path.to_owned(), source };
        fs::create_dir_all(directory).map_err(|source| file_error(directory, source))?;
        let key_path = directory.join("ca.key");
        let key = match fs::read_to_string(&key_path) {
            Ok(text) => KeyPair::from_pem(&text).map_err(unusable)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate().map_err(unusable)?;
                files::write(&key_path, key.serialize_pem().as_bytes(), 0o600)
                    .map_err(|source| file_error(&key_path, source))?;
                key
            }
            Err(source) => return Err(file_error(&key_path, source)),
        };
        let authority = Self { directory: directory.to_owned(), key };
        let pem_path = authority.pem_path();
        if !pem_path.exists() {
            let certificate = authority_params().self_signed(&authority.key).map_err(unusable)?;
            files::write(&pem_path, certificate.pem().as_bytes(), 0o644)
                .map_err(|source| file_error(&pem_path, source))?;
        }
        Ok(authority)
    }

    /// The PEM file that clients trust (`HEARTH_CA_BUNDLE`).
    pub fn pem_path(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Makes a certificate for every name directly below `suffix`.
    pub(crate) fn issue(&self, suffix: &str) -> Result<Certificate, CaError> {
        let unusable = |source| CaError::Unusable { directory: self.directory.clone(), source };
        let key = KeyPair::generate().map_err(unusable)?;
        let mut params = CertificateParams::new(vec![format!("*.{suffix}")]).map_err(unusable)?;
        params.distinguished_name.push(DnType::CommonName, "Hearth endpoints");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        set_validity(&mut params, ENDPOINT_DAYS);
        let issuer = authority_params();
        let certificate =
            params.signed_by(&key, &Issuer::from_params(&issuer, &self.key)).map_err(unusable)?;
        let (chain, key) = (certificate.pem(), key.serialize_pem());
        let path = self.directory.as_path();
        Ok(Certificate::parse((path, chain.as_bytes()), (path, key.as_bytes()), suffix)?)
    }
}

/// The authority's certificate without its key. Name and key identifier must stay the same in every
/// version, as endpoint certificates are signed without reading `ca.pem`.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Hearth endpoint authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, AUTHORITY_DAYS);
    params
}

fn set_validity(params: &mut CertificateParams, days: i64) {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let on = |offset_days: i64| {
        let date: Date = today.saturating_add(SignedDuration::from_hours(24 * offset_days));
        let [year, month, day] = [i32::from(date.year()), i32::from(date.month()), i32::from(date.day())];
        date_time_ymd(year, month as u8, day as u8)
    };
    params.not_before = on(-EARLY_DAYS);
    params.not_after = on(days);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_authority_is_made_once_and_its_key_is_private() {
        let data = tempfile::tempdir().unwrap();
        let directory = data.path().join("ca");
        let first = CertificateAuthority::open(&directory).unwrap();
        let mode = fs::metadata(directory.join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let pem = fs::read(first.pem_path()).unwrap();
        let again = CertificateAuthority::open(&directory).unwrap();
        assert_eq!(fs::read(again.pem_path()).unwrap(), pem);
        fs::write(directory.join("ca.key"), "no key").unwrap();
        assert!(matches!(CertificateAuthority::open(&directory), Err(CaError::Unusable { .. })));
    }
}
