//! What the operator may set: arguments of `hearth serve`, and the TOML file behind `--config`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use hearth_control_plane::{DefaultEgress, Rates};
use hearth_logs_api::RETENTIONS as LOG_RETENTIONS;
use serde::Deserialize;

use crate::api_config::ApiConfig;
use crate::build_config::BuildConfig;
use crate::cache_dir::cache_dir;
use crate::config_checks;
use crate::endpoint_config::{AcmeConfig, CertificateConfig, DnsConfig, EndpointConfig};
use crate::quota_config::QuotaConfig;

/// Beyond this, bytes would not fit the database's integers.
const LARGEST_GROUP_MIB: u64 = 1 << 40;

/// Arguments of `hearth serve`; each overrides the file.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Directory for everything that is kept
    #[arg(long)]
    pub(crate) data_dir: PathBuf,
    /// Address of the API (port 0 picks a free one) [default: 127.0.0.1:9400]
    #[arg(long)]
    pub(crate) api_addr: Option<SocketAddr>,
    /// Address of the microVMs' HTTPS endpoints [default: 127.0.0.1:443]
    #[arg(long)]
    pub(crate) endpoint_addr: Option<SocketAddr>,
    /// Domain of the endpoints' names [default: localhost]
    #[arg(long)]
    pub(crate) endpoint_domain: Option<String>,
    /// Region [default: us-east-1]
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// What becomes of running microVMs when the server stops [default: keep-running]
    #[arg(long)]
    pub(crate) on_stop: Option<OnStop>,
    /// TOML file with further settings (docs/configuration.md)
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
}

/// What becomes of running microVMs when the server is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnStop {
    /// They run on; the next server takes them over
    #[default]
    KeepRunning,
    /// They are suspended; no process is left
    Suspend,
}

/// The TOML file; every setting has a default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Address of the API.
    pub(crate) api_addr: SocketAddr,
    /// Address of the endpoints.
    pub(crate) endpoint_addr: SocketAddr,
    /// Domain of the endpoints' names.
    pub(crate) endpoint_domain: String,
    /// Names that the API is reached by, in front of which clients of S3 may write a bucket;
    /// `localhost` always is one.
    pub(crate) api_names: Vec<String>,
    /// Region.
    pub(crate) region: String,
    /// First account, twelve digits.
    pub(crate) account_id: String,
    /// Further accounts.
    pub(crate) accounts: Vec<String>,
    /// What becomes of running microVMs when the server stops.
    pub(crate) on_stop: OnStop,
    /// Least `maxIdleDurationSeconds` that RunMicrovm accepts.
    pub(crate) minimum_idle_seconds: u32,
    /// Accept bare image names where the service wants an ARN.
    pub(crate) lenient_image_names: bool,
    /// Build for the host what is wanted for another architecture.
    pub(crate) any_architecture: bool,
    /// Endpoints lead to the port of the hooks, as they do on the service.
    pub(crate) hooks_port_reachable: bool,
    /// How much there may be.
    pub(crate) quotas: QuotaConfig,
    /// `[rates]`: how fast the account may call.
    pub(crate) rates: Rates,
    /// File of the endpoints' access log.
    pub(crate) access_log: Option<PathBuf>,
    /// Age in days at which the key of endpoint tokens is replaced; 0 is never.
    pub(crate) token_key_days: u32,
    /// A certificate of the operator's.
    pub(crate) certificate: Option<CertificateConfig>,
    /// A certificate by ACME.
    pub(crate) acme: Option<AcmeConfig>,
    /// Name server for the endpoints' domain.
    pub(crate) dns: Option<DnsConfig>,
    /// Connections to the API.
    pub(crate) api: ApiConfig,
    /// How much the endpoints serve.
    pub(crate) endpoint: EndpointConfig,
    /// Guest files.
    pub(crate) guest: GuestConfig,
    /// Builds.
    pub(crate) build: BuildConfig,
    /// Network.
    pub(crate) network: NetworkConfig,
    /// Log groups.
    pub(crate) logs: LogsConfig,
    /// Records.
    pub(crate) retention: RetentionConfig,
}

/// `[guest]`: the files that `make build` leaves.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GuestConfig {
    /// Directory with kernel and builder disk.
    pub(crate) directory: PathBuf,
    /// Initial RAM file system with the agent.
    pub(crate) initrd: PathBuf,
    /// QEMU's system emulator; found in PATH by default.
    pub(crate) qemu: Option<PathBuf>,
    /// First user id of VMM processes; derived from the data directory by default.
    pub(crate) first_uid: Option<u32>,
}

/// `[network]`: what guests may reach.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NetworkConfig {
    /// Private ranges (CIDR) that guests may reach.
    pub(crate) allow_egress_to: Vec<String>,
    /// Where namespaces get their uplink addresses.
    pub(crate) address_range: Option<String>,
    /// Name servers; those of /etc/resolv.conf by default.
    pub(crate) resolvers: Option<Vec<SocketAddr>>,
    /// Networks kept ready.
    pub(crate) pool_size: usize,
    /// What microVMs and images reach that name no egress connector.
    pub(crate) default_egress: String,
    /// What those of some accounts reach instead, by the number of the account.
    pub(crate) default_egress_by_account: BTreeMap<String, String>,
}

impl NetworkConfig {
    pub(crate) fn default_egress(&self) -> DefaultEgress {
        let (all, by_account) = (self.default_egress.clone(), self.default_egress_by_account.clone());
        DefaultEgress { all, by_account }
    }
}

/// `[logs]`: how long and how much is kept of log groups.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogsConfig {
    /// Retention of groups that builds and microVMs make; 0 is for ever.
    pub(crate) retention_days: u32,
    /// Size of a group; 0 is without end.
    pub(crate) maximum_group_mib: u64,
}

/// `[retention]`: how long records are kept; 0 is for ever.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the unit is part of a setting's name")]
pub(crate) struct RetentionConfig {
    /// Days from a microVM's end.
    pub(crate) terminated_days: u32,
    /// Days from the first use of a client token.
    pub(crate) client_token_days: u32,
    /// Days from an event.
    pub(crate) event_days: u32,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self { retention_days: 0, maximum_group_mib: 1024 }
    }
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { terminated_days: 30, client_token_days: 7, event_days: 90 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_addr: SocketAddr::from(([127, 0, 0, 1], 9400)),
            endpoint_addr: SocketAddr::from(([127, 0, 0, 1], 443)),
            endpoint_domain: "localhost".into(),
            api_names: Vec::new(),
            region: "us-east-1".into(),
            account_id: "000000000000".into(),
            accounts: Vec::new(),
            on_stop: OnStop::default(),
            minimum_idle_seconds: 60,
            lenient_image_names: false,
            any_architecture: false,
            hooks_port_reachable: true,
            quotas: QuotaConfig::default(),
            rates: Rates::default(),
            access_log: None,
            token_key_days: 30,
            certificate: None,
            acme: None,
            dns: None,
            api: ApiConfig::default(),
            endpoint: EndpointConfig::default(),
            guest: GuestConfig::default(),
            build: BuildConfig::default(),
            network: NetworkConfig::default(),
            logs: LogsConfig::default(),
            retention: RetentionConfig::default(),
        }
    }
}

impl Default for GuestConfig {
    fn default() -> Self {
        let directory = cache_dir().join("guest/1");
        Self { initrd: cache_dir().join("initrd.img"), directory, qemu: None, first_uid: None }
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            allow_egress_to: Vec::new(),
            address_range: None,
            resolvers: None,
            pool_size: hearth_host_net::HostNetConfig::DEFAULT_POOL_SIZE,
            default_egress: DefaultEgress::default().all,
            default_egress_by_account: BTreeMap::new(),
        }
    }
}

impl Config {
    /// The file, if one is named, with the arguments on top.
    pub(crate) fn load(args: &ServeArgs) -> anyhow::Result<Self> {
        let mut config = match &args.config {
            None => Self::default(),
            Some(path) => Self::read(path)?,
        };
        let ServeArgs { api_addr, endpoint_addr, endpoint_domain, region, on_stop, .. } = args;
        config.on_stop = on_stop.unwrap_or(config.on_stop);
        config.api_addr = api_addr.unwrap_or(config.api_addr);
        config.endpoint_addr = endpoint_addr.unwrap_or(config.endpoint_addr);
        // Host names have no case.
        config.endpoint_domain =
            endpoint_domain.clone().unwrap_or(config.endpoint_domain).to_ascii_lowercase();
        config.region = region.clone().unwrap_or(config.region);
        for account in std::iter::once(&config.account_id).chain(&config.accounts) {
            anyhow::ensure!(
                account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()),
                "the account {account:?} is not twelve digits"
            );
        }
        let days = config.logs.retention_days;
        anyhow::ensure!(
            days == 0 || LOG_RETENTIONS.contains(&days),
            "logs.retention_days is {days}; it must be 0 (for ever) or one of {LOG_RETENTIONS:?}"
        );
        anyhow::ensure!(
            config.logs.maximum_group_mib <= LARGEST_GROUP_MIB,
            "logs.maximum_group_mib is {}; it must be at most {LARGEST_GROUP_MIB}",
            config.logs.maximum_group_mib
        );
        anyhow::ensure!(
            config.quotas.log_mib <= LARGEST_GROUP_MIB,
            "quotas.log_mib is {}; it must be at most {LARGEST_GROUP_MIB}",
            config.quotas.log_mib
        );
        config.check_endpoint_settings()?;
        config_checks::region(&config.region)?;
        config_checks::domain(&config.endpoint_domain)?;
        let of_acme = config.acme.as_ref().and_then(|acme| acme.ca_bundle.as_deref());
        for (setting, path) in
            [("build.ca_bundle", config.build.ca_bundle.as_deref()), ("acme.ca_bundle", of_acme)]
        {
            path.map_or(Ok(()), |path| config_checks::certificates(setting, path))?;
        }
        config_checks::mirror_table(&config.build)?;
        config.guest.first_uid.map_or(Ok(()), config_checks::first_uid)?;
        Ok(config)
    }

    fn check_endpoint_settings(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.certificate.is_none() || self.acme.is_none(),
            "certificate and acme are both set; the endpoints have one certificate"
        );
        let nowhere = self.dns.as_ref().is_some_and(|dns| dns.answers.is_empty())
            && self.endpoint_addr.ip().is_unspecified();
        anyhow::ensure!(
            !nowhere,
            "dns.answers must name the addresses of the endpoints, because endpoint_addr is {}",
            self.endpoint_addr
        );
        Ok(())
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not a valid configuration", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_set_anything_and_nothing_unknown() {
        let config: Config = toml::from_str(
            "region = \"eu-west-1\"\n[build]\nlisten_timeout_seconds = 5\n[network]\nallow_egress_to = [\"10.1.0.0/16\"]\n",
        )
        .unwrap();
        assert_eq!(config.region, "eu-west-1");
        assert_eq!(config.build.listen_timeout_seconds, 5);
        assert_eq!(config.network.allow_egress_to, ["10.1.0.0/16"]);
        assert!(toml::from_str::<Config>("regoin = \"x\"").is_err());
    }
}
