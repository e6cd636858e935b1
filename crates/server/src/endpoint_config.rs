//! The settings of the endpoints: certificate, names, limits.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hearth_data_plane::{DataPlaneConfig, MicrovmLimits, Workers};
use serde::Deserialize;
use tokio::sync::Semaphore;

/// `[certificate]`: files that the operator provides, and replaces at will.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateConfig {
    /// PEM file, the endpoints' certificate first.
    pub(crate) chain: PathBuf,
    /// PEM file with its key.
    pub(crate) key: PathBuf,
}

/// `[acme]`: where a certificate is ordered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcmeConfig {
    /// URL of the ACME server's directory.
    pub(crate) directory_url: String,
    /// URLs by which the ACME server may reach the operator.
    #[serde(default)]
    pub(crate) contacts: Vec<String>,
    /// What the account is bound to, if the ACME server asks for that.
    pub(crate) external_account: Option<ExternalAccountConfig>,
    /// Program that makes TXT records; with `[dns]` the server makes them itself.
    pub(crate) hook: Option<PathBuf>,
    /// Seconds until the hook is killed.
    #[serde(default = "default_hook_timeout_seconds")]
    pub(crate) hook_timeout_seconds: u64,
    /// PEM file with the authorities to trust instead of the host's.
    pub(crate) ca_bundle: Option<PathBuf>,
}

/// `acme.external_account`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExternalAccountConfig {
    /// Key identifier.
    pub(crate) key_id: String,
    /// File with the key, in base64url.
    pub(crate) key_file: PathBuf,
}

fn default_hook_timeout_seconds() -> u64 {
    120
}

/// `[dns]`: the name server for the endpoints' domain.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DnsConfig {
    /// Where it listens, over UDP and TCP.
    pub(crate) address: SocketAddr,
    /// What it answers with; by default the address of the endpoints.
    #[serde(default)]
    pub(crate) answers: Vec<IpAddr>,
}

/// `[endpoint]`: how much is served. What a microVM may take grows with its vCPUs at peak; 0 is no limit.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EndpointConfig {
    /// Client connections at a time; more wait.
    pub(crate) connections: u32,
    /// Client connections of one source.
    pub(crate) connections_per_source: u32,
    /// Seconds for which a client may acknowledge nothing, or leave no room for what is to be sent.
    pub(crate) client_timeout_seconds: u32,
    /// Client connections of one microVM.
    pub(crate) connections_per_vcpu: u32,
    /// Requests to one microVM.
    pub(crate) requests_per_second_per_vcpu: u32,
    /// Bytes to and from one microVM.
    pub(crate) bytes_per_second_per_vcpu: u64,
}

impl EndpointConfig {
    pub(crate) fn data_plane(&self) -> DataPlaneConfig {
        let limit = |value: u32| Some(value).filter(|value| *value > 0);
        DataPlaneConfig {
            connections: limit(self.connections).map_or(Semaphore::MAX_PERMITS, |value| value as usize),
            connections_per_source: limit(self.connections_per_source),
            client_timeout: limit(self.client_timeout_seconds)
                .map(|seconds| Duration::from_secs(seconds.into())),
            microvm_limits: MicrovmLimits {
                connections: limit(self.connections_per_vcpu),
                requests_per_second: limit(self.requests_per_second_per_vcpu),
                bytes_per_second: Some(self.bytes_per_second_per_vcpu).filter(|value| *value > 0),
            },
            workers: Workers::one_per_cpu(),
        }
    }
}

impl Default for EndpointConfig {
    fn default() -> Self {
        let or_none = |limit: Option<u32>| limit.unwrap_or(0);
        let service = MicrovmLimits::SERVICE;
        Self {
            connections: 4096,
            connections_per_source: 1024,
            client_timeout_seconds: 300,
            connections_per_vcpu: or_none(service.connections),
            requests_per_second_per_vcpu: or_none(service.requests_per_second),
            bytes_per_second_per_vcpu: service.bytes_per_second.unwrap_or(0),
        }
    }
}
