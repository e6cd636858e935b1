//! The settings of the endpoints: certificate, names, limits.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hearth_data_plane::{DataPlaneConfig, MicrovmLimits, Workers};
use serde::Deserialize;

use crate::open_files::Connections;

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

/// `[endpoint]`: how much is served. What a microVM may take grows with its vCPUs at
/// peak; 0 is no limit.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EndpointConfig {
    /// Client connections at a time; more wait.
    pub(crate) connections: u32,
    /// Client connections of one microVM that have shown a token; a quarter of all by default.
    pub(crate) connections_per_microvm: Option<u32>,
    /// Client connections of all microVMs of one account that have shown a token;
    /// half of all by default.
    pub(crate) connections_per_account: Option<u32>,
    /// Client connections of one source.
    pub(crate) connections_per_source: u32,
    /// TLS handshakes of one source.
    pub(crate) handshakes_per_second_per_source: u32,
    /// Seconds for which a client may acknowledge nothing, or leave no room for what is to be sent.
    pub(crate) client_timeout_seconds: u32,
    /// Whose limits by size apply where the next three say nothing.
    pub(crate) limits: Limits,
    /// Client connections of one microVM.
    pub(crate) connections_per_vcpu: Option<u32>,
    /// Requests to one microVM.
    pub(crate) requests_per_second_per_vcpu: Option<u32>,
    /// Bytes to and from one microVM.
    pub(crate) bytes_per_second_per_vcpu: Option<u64>,
}

/// `endpoint.limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Limits {
    /// None by size; microVMs share what there is.
    #[default]
    Fair,
    /// Those of the service.
    Aws,
}

impl EndpointConfig {
    /// Client connections that the operator wants; `None` is as many as there can be.
    pub(crate) fn wanted_connections(&self) -> Option<u64> {
        Some(self.connections.into()).filter(|connections| *connections > 0)
    }

    pub(crate) fn data_plane(&self, possible: Connections) -> DataPlaneConfig {
        let part = |set: Option<u32>, parts: usize| match set {
            Some(set) => Some(set).filter(|set| *set > 0),
            None => Some((possible.clients / parts).max(1) as u32),
        };
        let limit = |value: u32| Some(value).filter(|value| *value > 0);
        DataPlaneConfig {
            connections: possible.clients,
            app_connections: possible.apps,
            connections_per_microvm: part(self.connections_per_microvm, 4),
            connections_per_account: part(self.connections_per_account, 2),
            connections_per_source: limit(self.connections_per_source),
            handshakes_per_second_per_source: limit(self.handshakes_per_second_per_source),
            client_timeout: limit(self.client_timeout_seconds)
                .map(|seconds| Duration::from_secs(seconds.into())),
            microvm_limits: self.microvm_limits(),
            workers: Workers::one_per_cpu(),
        }
    }

    fn microvm_limits(&self) -> MicrovmLimits {
        let by_size = match self.limits {
            Limits::Fair => MicrovmLimits::FAIR,
            Limits::Aws => MicrovmLimits::SERVICE,
        };
        MicrovmLimits {
            connections: self.connections_per_vcpu.or(by_size.connections).filter(|value| *value > 0),
            requests_per_second: self
                .requests_per_second_per_vcpu
                .or(by_size.requests_per_second)
                .filter(|value| *value > 0),
            bytes_per_second: self
                .bytes_per_second_per_vcpu
                .or(by_size.bytes_per_second)
                .filter(|value| *value > 0),
            ..by_size
        }
    }
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_source: 1024,
            handshakes_per_second_per_source: 200,
            client_timeout_seconds: 300,
            connections_per_microvm: None,
            connections_per_account: None,
            limits: Limits::default(),
            connections_per_vcpu: None,
            requests_per_second_per_vcpu: None,
            bytes_per_second_per_vcpu: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_by_size_are_the_service_s_only_if_they_are_asked_for() {
        let limits = |text: &str| toml::from_str::<EndpointConfig>(text).unwrap().microvm_limits();
        assert_eq!(limits(""), MicrovmLimits::FAIR);
        assert_eq!(limits("limits = \"fair\""), MicrovmLimits::FAIR);
        assert_eq!(limits("limits = \"aws\""), MicrovmLimits::SERVICE);
        let one_off = limits("limits = \"aws\"\nbytes_per_second_per_vcpu = 0");
        assert_eq!(one_off, MicrovmLimits { bytes_per_second: None, ..MicrovmLimits::SERVICE });
        let one_on = limits("requests_per_second_per_vcpu = 7");
        assert_eq!(one_on, MicrovmLimits { requests_per_second: Some(7), ..MicrovmLimits::FAIR });
        assert!(toml::from_str::<EndpointConfig>("limits = \"none\"").is_err());
    }

    #[test]
    fn one_microvm_and_one_account_have_a_part_of_the_places() {
        let possible = Connections { clients: 400, apps: 400, api: 100 };
        let config = |text: &str| toml::from_str::<EndpointConfig>(text).unwrap().data_plane(possible);
        let parts =
            |config: DataPlaneConfig| (config.connections_per_microvm, config.connections_per_account);
        assert_eq!(parts(config("")), (Some(100), Some(200)));
        assert_eq!(
            parts(config("connections_per_microvm = 0\nconnections_per_account = 7")),
            (None, Some(7))
        );
    }
}
