//! A certificate by ACME (RFC 8555), with DNS-01 as wildcards need it.
//!
//! Account key and certificate are kept in a directory of their own (mode 0600). An order that
//! fails is tried again after a minute, then after twice as long each time, up to six hours.

mod external_account;
pub mod hook;
mod order;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use instant_acme::{Account, AccountBuilder, AccountCredentials, NewAccount};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::certificate::{Certificate, CertificateError};
use crate::files;
use crate::own::OwnCertificate;
pub use external_account::ExternalAccount;

/// Pause after the first failed order. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_mins(1);
/// Longest pause between a failed order and the next one.
const LONGEST_PAUSE: Duration = Duration::from_hours(6);
/// Longest time between two looks whether to renew.
const PERIOD: Duration = Duration::from_hours(1);
/// Longest time for an order, without the calls of [`ChallengeRecords`], which have
/// limits of their own.
const ORDER_TIMEOUT: Duration = Duration::from_mins(10);

/// Where and how a certificate is ordered.
#[derive(Debug, Clone)]
pub struct AcmeSettings {
    /// URL of the ACME server's directory.
    pub directory_url: String,
    /// URLs that the server may use to reach the operator, such as `mailto:ops@example.com`.
    pub contacts: Vec<String>,
    /// What the account is bound to, if the ACME server asks for that.
    pub external_account: Option<ExternalAccount>,
    /// PEM file with the authorities to trust instead of the host's, for a private ACME server.
    pub ca_bundle: Option<PathBuf>,
    /// Where account and certificate are kept.
    pub directory: PathBuf,
    /// The certificate is for every name directly below.
    pub suffix: String,
}

/// Makes the TXT records that prove the possession of the domain.
#[async_trait]
pub trait ChallengeRecords: std::fmt::Debug + Send + Sync {
    /// Adds a TXT record; done when the domain's name servers answer with it.
    async fn present(&self, name: &str, value: &str) -> Result<(), RecordError>;

    /// Removes it, whether or not it is there.
    async fn cleanup(&self, name: &str, value: &str) -> Result<(), RecordError>;
}

/// Why a record was not made or removed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The hook could not be started or watched.
    #[error("the hook {} could not be run", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The hook took too long and was killed.
    #[error("the hook {} took more than {seconds} s", program.display())]
    TooSlow {
        /// The program.
        program: PathBuf,
        /// Its limit.
        seconds: u64,
    },
    /// The hook failed.
    #[error("the hook {} ended with {status}: {stderr}", program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// Exit status or signal.
        status: std::process::ExitStatus,
        /// The beginning of what it said on standard error.
        stderr: String,
    },
    /// The server's own name server is not for that name.
    #[error("the name server has no records for {0}")]
    OtherZone(String),
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum AcmeError {
    #[error("the ACME server could not be asked, or refused")]
    Server(#[from] instant_acme::Error),
    #[error("the ACME server offers no DNS-01 challenge")]
    NoDnsChallenge,
    #[error("the ACME server did not accept the proof: the order is {0}")]
    NotReady(String),
    #[error("the order took too long")]
    TooSlow,
    #[error("a TXT record could not be made")]
    Record(#[source] RecordError),
    #[error("what the ACME server gave cannot be served")]
    Certificate(#[from] CertificateError),
    #[error("cannot read or write {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} does not hold an account", path.display())]
    Account { path: PathBuf, source: serde_json::Error },
    #[error("{} does not hold a key of at least 16 bytes in base64url", path.display())]
    ExternalAccountKey { path: PathBuf },
}

/// The account file.
#[derive(Serialize, Deserialize)]
struct StoredAccount {
    directory_url: String,
    credentials: AccountCredentials,
}

/// Orders a certificate and renews it.
#[derive(Debug)]
pub struct Acme {
    settings: AcmeSettings,
    records: Box<dyn ChallengeRecords>,
    /// Serves until there is one.
    own: OwnCertificate,
    renew_at: Option<Timestamp>,
}

impl Acme {
    /// Serves the certificate that is kept from an earlier run, if there is one,
    /// else that of `own`.
    pub fn new(settings: AcmeSettings, records: Box<dyn ChallengeRecords>, own: OwnCertificate) -> Self {
        let mut acme = Self { settings, records, own, renew_at: None };
        let path = acme.certificate_path();
        if path.exists() {
            match Certificate::read(&path, &path, &acme.settings.suffix) {
                Ok(certificate) => acme.serve(&certificate),
                // The domain was changed, perhaps; a new one is ordered at once.
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the certificate that was had by ACME is not used"
                ),
            }
        }
        acme
    }

    /// What TLS is to be given.
    pub fn served(&self) -> std::sync::Arc<crate::ServedCertificate> {
        self.own.served()
    }

    /// Orders a certificate when there is none or two thirds of its life are over,
    /// until this is cancelled.
    pub async fn keep_renewing(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let now = Timestamp::now();
            if self.renew_at.is_none() {
                self.own.renew_if_due(now);
            }
            if let Some(renew_at) = self.renew_at.filter(|renew_at| now < *renew_at) {
                // The clock may be set meanwhile.
                let left = Duration::try_from(renew_at.duration_since(now)).unwrap_or_default();
                tokio::time::sleep(left.min(PERIOD)).await;
                continue;
            }
            match self.order().await {
                Ok(certificate) => {
                    self.serve(&certificate);
                    let not_after = certificate.not_after;
                    tracing::info!(%not_after, "the endpoint certificate was had by ACME");
                    pause = FIRST_PAUSE;
                }
                Err(error) => {
                    let seconds = pause.as_secs();
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "no endpoint certificate by ACME; it is tried again in {seconds} s"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn serve(&mut self, certificate: &Certificate) {
        self.own.served().replace(certificate);
        self.renew_at = Some(certificate.renew_at());
    }

    /// Key and chain are in one file, so that they are never of two orders.
    fn certificate_path(&self) -> PathBuf {
        self.settings.directory.join("certificate.pem")
    }

    async fn order(&self) -> Result<Certificate, AcmeError> {
        let directory = &self.settings.directory;
        std::fs::create_dir_all(directory).map_err(|source| file_error(directory, source))?;
        let account = self.account().await?;
        let (key, chain) = order::complete(&account, &self.settings.suffix, &*self.records).await?;
        let path = self.certificate_path();
        let pem = format!("{key}{chain}");
        let certificate =
            Certificate::parse((&path, pem.as_bytes()), (&path, pem.as_bytes()), &self.settings.suffix)?;
        files::write(&path, pem.as_bytes(), 0o600).map_err(|source| file_error(&path, source))?;
        Ok(certificate)
    }

    /// The account that is kept for this ACME server, or a new one. By making it the operator
    /// agrees to the terms of service, as the documentation of the setting says.
    async fn account(&self) -> Result<Account, AcmeError> {
        let path = self.settings.directory.join("account.json");
        match std::fs::read(&path) {
            Ok(text) => {
                let stored: StoredAccount = serde_json::from_slice(&text)
                    .map_err(|source| AcmeError::Account { path: path.clone(), source })?;
                if stored.directory_url == self.settings.directory_url {
                    return Ok(self.builder()?.from_credentials(stored.credentials).await?);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(file_error(&path, source)),
        }
        let contact: Vec<&str> = self.settings.contacts.iter().map(String::as_str).collect();
        let account =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let directory_url = self.settings.directory_url.clone();
        let binding = self.settings.external_account.as_ref().map(ExternalAccount::key).transpose()?;
        let (account, credentials) =
            self.builder()?.create(&account, directory_url.clone(), binding.as_ref()).await?;
        let stored = serde_json::to_vec(&StoredAccount { directory_url, credentials })
            .map_err(|source| AcmeError::Account { path: path.clone(), source })?;
        files::write(&path, &stored, 0o600).map_err(|source| file_error(&path, source))?;
        Ok(account)
    }

    fn builder(&self) -> Result<AccountBuilder, AcmeError> {
        Ok(match &self.settings.ca_bundle {
            Some(bundle) => Account::builder_with_root(bundle)?,
            None => Account::builder()?,
        })
    }
}

fn file_error(path: &Path, source: io::Error) -> AcmeError {
    AcmeError::File { path: path.to_owned(), source }
}
