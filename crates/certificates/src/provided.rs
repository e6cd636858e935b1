//! A certificate that the operator provides as files, and replaces while the server runs.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::certificate::{Certificate, CertificateError};
use crate::served::ServedCertificate;

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(10);

/// The files and what was read of them last.
#[derive(Debug)]
pub struct ProvidedCertificate {
    chain: PathBuf,
    key: PathBuf,
    suffix: String,
    served: Arc<ServedCertificate>,
    seen: [Option<Version>; 2],
}

/// By what a file that was written or replaced differs from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl ProvidedCertificate {
    /// Reads a chain and a key, both PEM, which must be for every name directly below `suffix`. An
    /// expired certificate is served with a warning: it may be all there is.
    pub fn load(chain: &Path, key: &Path, suffix: &str) -> Result<Self, CertificateError> {
        let seen = versions(chain, key);
        let certificate = Certificate::read(chain, key, suffix)?;
        warn_if_expired(&certificate, chain);
        Ok(Self {
            chain: chain.to_owned(),
            key: key.to_owned(),
            suffix: suffix.to_owned(),
            served: ServedCertificate::new(&certificate),
            seen,
        })
    }

    /// What TLS is to be given.
    pub fn served(&self) -> Arc<ServedCertificate> {
        Arc::clone(&self.served)
    }

    /// Reads the files again whenever they have changed, within ten seconds or when `hurry` is
    /// notified, until this is cancelled.
    pub async fn keep_reloading(mut self, hurry: Arc<Notify>) {
        loop {
            // Either way the files are looked at.
            let _ = tokio::time::timeout(PERIOD, hurry.notified()).await;
            self.reload_if_changed();
        }
    }

    fn reload_if_changed(&mut self) {
        let seen = versions(&self.chain, &self.key);
        if seen == self.seen {
            return;
        }
        // What cannot be used is tried, and complained of, once.
        self.seen = seen;
        match Certificate::read(&self.chain, &self.key, &self.suffix) {
            Ok(certificate) => {
                warn_if_expired(&certificate, &self.chain);
                self.served.replace(&certificate);
                tracing::info!(not_after = %certificate.not_after, "the endpoint certificate was replaced");
            }
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "the endpoint certificate stays as it was"
            ),
        }
    }
}

fn warn_if_expired(certificate: &Certificate, chain: &Path) {
    if certificate.not_after < Timestamp::now() {
        let not_after = certificate.not_after;
        tracing::warn!(chain = %chain.display(), %not_after, "the endpoint certificate has expired");
    }
}

fn versions(chain: &Path, key: &Path) -> [Option<Version>; 2] {
    [chain, key].map(|path| std::fs::metadata(path).ok().map(|metadata| Version::of(&metadata)))
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { inode: metadata.ino(), bytes: metadata.size(), modified }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    const SUFFIX: &str = "lambda-microvm.us-east-1.example.test";

    struct Files {
        directory: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap() }
        }

        fn chain(&self) -> PathBuf {
            self.directory.path().join("chain.pem")
        }

        fn key(&self) -> PathBuf {
            self.directory.path().join("key.pem")
        }

        fn load(&self) -> Result<ProvidedCertificate, CertificateError> {
            ProvidedCertificate::load(&self.chain(), &self.key(), SUFFIX)
        }

        fn write(&self, name: &str) {
            let (chain, key) = pem(name, 2090);
            std::fs::write(self.chain(), chain).unwrap();
            std::fs::write(self.key(), key).unwrap();
        }
    }

    fn pem(name: &str, until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["other.test".to_owned(), name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn each_fault_has_its_sentence() {
        let files = Files::new();
        let (chain, key) = (files.chain().display().to_string(), files.key().display().to_string());
        let sentence = || files.load().unwrap_err().to_string();
        assert_eq!(sentence(), format!("cannot read {chain}"));
        files.write(&format!("*.{SUFFIX}"));
        std::fs::remove_file(files.key()).unwrap();
        assert_eq!(sentence(), format!("cannot read {key}"));
        std::fs::write(files.key(), "no key").unwrap();
        assert_eq!(sentence(), format!("{key} holds no private key in PEM form that TLS can use"));
        std::fs::write(files.key(), pem("x", 2090).1).unwrap();
        assert_eq!(sentence(), format!("the key in {key} is not that of the first certificate in {chain}"));
        files.write("*.example.test");
        assert_eq!(
            sentence(),
            format!("the certificate in {chain} is for other.test, *.example.test, not for *.{SUFFIX}")
        );
        std::fs::write(files.chain(), "nothing").unwrap();
        assert_eq!(sentence(), format!("{chain} holds no certificate in PEM form"));
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(files.chain(), damaged).unwrap();
        assert_eq!(sentence(), format!("the first certificate in {chain} is damaged"));
    }

    #[test]
    fn an_expired_certificate_is_served() {
        let files = Files::new();
        let (chain, key) = pem(&format!("*.{}", SUFFIX.to_uppercase()), 2002);
        std::fs::write(files.chain(), chain).unwrap();
        std::fs::write(files.key(), key).unwrap();
        assert!(files.load().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn new_files_are_served_and_broken_ones_are_not() {
        let files = Files::new();
        files.write(&format!("*.{SUFFIX}"));
        let mut provided = files.load().unwrap();
        let (served, first) = (provided.served(), provided.served().current());
        provided.reload_if_changed();
        assert!(Arc::ptr_eq(&first, &served.current()));
        std::fs::remove_file(files.key()).unwrap();
        provided.reload_if_changed();
        std::fs::write(files.key(), "half a k").unwrap();
        provided.reload_if_changed();
        assert!(Arc::ptr_eq(&first, &served.current()), "what cannot be used changes nothing");

        let hurry = Arc::new(Notify::new());
        let reloading = tokio::spawn(provided.keep_reloading(hurry.clone()));
        for _ in 0..2 {
            let before = served.current();
            files.write(&format!("*.{SUFFIX}"));
            hurry.notify_one();
            while Arc::ptr_eq(&before, &served.current()) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            assert_ne!(before.cert, served.current().cert);
        }
        reloading.abort();
    }
}
