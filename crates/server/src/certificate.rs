//! Which certificate the endpoints have, by configuration, and the task that keeps it fresh.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use hearth_certificates::{
    Acme, AcmeSettings, CertificateAuthority, ChallengeRecords, ExternalAccount, Hook, OwnCertificate,
    ProvidedCertificate, RecordError, ServedCertificate,
};
use hearth_dns::Zone;
use tokio::sync::Notify;

use crate::config::Config;
use crate::endpoint_config::AcmeConfig;

/// The certificate, and what is to be run until the server stops.
pub(crate) struct EndpointCertificate {
    pub(crate) served: Arc<ServedCertificate>,
    pub(crate) keeping: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Opens the certificate for names below `suffix`. `zone` is there if the server is the domain's
/// name server; `hurry` is notified when files should be read again.
pub(crate) fn open(
    config: &Config,
    data_dir: &Path,
    suffix: &str,
    zone: Option<Arc<Zone>>,
    hurry: Arc<Notify>,
) -> anyhow::Result<EndpointCertificate> {
    let authority = CertificateAuthority::open(&data_dir.join("ca"))?;
    if let Some(files) = &config.certificate {
        let provided = ProvidedCertificate::load(&files.chain, &files.key, suffix)?;
        let served = provided.served();
        return Ok(EndpointCertificate { served, keeping: Box::pin(provided.keep_reloading(hurry)) });
    }
    let own = OwnCertificate::issue(authority, suffix)?;
    let served = own.served();
    let Some(acme) = &config.acme else {
        return Ok(EndpointCertificate { served, keeping: Box::pin(own.keep_renewing()) });
    };
    let settings = AcmeSettings {
        directory_url: acme.directory_url.clone(),
        contacts: acme.contacts.clone(),
        external_account: acme
            .external_account
            .clone()
            .map(|account| ExternalAccount { key_id: account.key_id, key_file: account.key_file }),
        ca_bundle: acme.ca_bundle.clone(),
        directory: data_dir.join("acme"),
        suffix: suffix.to_owned(),
    };
    let acme = Acme::new(settings, records(acme, zone)?, own);
    Ok(EndpointCertificate { served: acme.served(), keeping: Box::pin(acme.keep_renewing()) })
}

fn records(acme: &AcmeConfig, zone: Option<Arc<Zone>>) -> anyhow::Result<Box<dyn ChallengeRecords>> {
    match (&acme.hook, zone) {
        (Some(hook), _) => Ok(Box::new(Hook::new(hook.clone(), acme.hook_timeout_seconds))),
        (None, Some(zone)) => Ok(Box::new(OwnRecords(zone))),
        (None, None) => None.context(
            "acme needs a way to make TXT records: set acme.hook, or dns.address to be the domain's name server",
        ),
    }
}

/// TXT records of the server's own name server.
#[derive(Debug)]
struct OwnRecords(Arc<Zone>);

#[async_trait]
impl ChallengeRecords for OwnRecords {
    async fn present(&self, name: &str, value: &str) -> Result<(), RecordError> {
        self.0.add_challenge(name, value).map_err(|_| RecordError::OtherZone(name.to_owned()))
    }

    async fn cleanup(&self, name: &str, value: &str) -> Result<(), RecordError> {
        self.0.remove_challenge(name, value).map_err(|_| RecordError::OtherZone(name.to_owned()))
    }
}
