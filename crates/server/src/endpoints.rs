//! Everything of the endpoints that needs no microVM: names, certificate, tokens, log. It is opened
//! before anything is started, so that a mistake in the configuration is said at once.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hearth_data_plane::{AccessLog, DataPlane, DataPlaneConfig, EndpointHosts, Observation};
use hearth_dns::{NameServer, Zone};
use hearth_identity::Identities;
use hearth_lifecycle::Registry;
use hearth_node::Node as _;
use hearth_records::CurrentLimits;
use hearth_store_sqlite::Store;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::certificate::{self, EndpointCertificate};
use crate::config::Config;
use crate::open_files::Connections;
use crate::shared::{SharedState, put_limits};
use crate::token_keys::{SharedTokenKeys, TokenKeyFile};

/// Between two looks for microVMs that have ended.
const PERIOD: Duration = Duration::from_mins(1);

/// The endpoints before they are served.
pub(crate) struct Endpoints {
    hosts: EndpointHosts,
    name_server: Option<NameServer>,
    certificate: EndpointCertificate,
    limits: DataPlaneConfig,
    tokens: TokenKeyFile,
    observation: Arc<Observation>,
    hang_up: Signal,
    /// Notified when files should be read again.
    hurry: Arc<Notify>,
}

/// The endpoints while they are served.
pub(crate) struct RunningEndpoints {
    pub(crate) data_plane: DataPlane,
    pub(crate) tokens: Arc<SharedTokenKeys>,
    pub(crate) observation: Arc<Observation>,
    /// What keeps keys and certificate fresh; ends when dropped.
    _background: JoinSet<()>,
    _name_server: Option<NameServer>,
}

impl Endpoints {
    /// Reads keys, certificate and settings; `address` is where the endpoints listen, `possible`
    /// how many connections there can be.
    pub(crate) async fn open(
        config: &Config,
        data_dir: &Path,
        address: SocketAddr,
        possible: Connections,
    ) -> anyhow::Result<Self> {
        let hosts = EndpointHosts::new(&config.region, &config.endpoint_domain);
        let (hang_up, hurry) = (signal(SignalKind::hangup())?, Arc::new(Notify::new()));
        let zone = zone(config, hosts.suffix(), address)?;
        let certificate = certificate::open(config, data_dir, hosts.suffix(), zone.clone(), hurry.clone())?;
        let name_server = match (&config.dns, zone) {
            (Some(dns), Some(zone)) => Some(NameServer::start(dns.address, zone).await?),
            _ => None,
        };
        if let Some(name_server) = &name_server {
            tracing::info!(address = %name_server.address(), domain = hosts.suffix(), "answering DNS queries");
        }
        Ok(Self {
            tokens: TokenKeyFile::open(data_dir, config.token_key_days)?,
            observation: Arc::new(observation(config)?),
            hosts,
            name_server,
            certificate,
            hang_up,
            hurry,
            limits: config.endpoint.data_plane(possible),
        })
    }

    /// Serves the listeners.
    pub(crate) async fn serve(
        self,
        listeners: Vec<TcpListener>,
        (store, identities, limits): (&Arc<Store>, &Arc<Identities>, &CurrentLimits),
        registry: &Arc<Registry>,
    ) -> anyhow::Result<RunningEndpoints> {
        let tokens = Arc::new(self.tokens.share(store.clone(), registry.id()).await?);
        let keys = tokens.keys();
        let mut shared = SharedState {
            shared: store.clone(),
            microvms: store.clone(),
            identities: identities.clone(),
            tokens: tokens.clone(),
            revocations: None,
            limits: limits.clone(),
            limits_version: put_limits(&**store, &limits.get()).await?,
        };
        shared.look().await?;
        let (served, observation) = (self.certificate.served, self.observation);
        let backend = registry.clone();
        let data_plane =
            DataPlane::start(listeners, self.hosts, served, keys, backend, observation.clone(), self.limits)?;
        let mut background = JoinSet::new();
        background.spawn(self.certificate.keeping);
        background.spawn(on_hang_up(self.hang_up, observation.clone(), self.hurry));
        background.spawn(shared.keep_looking());
        background.spawn(tokens.clone().keep_rotating());
        background.spawn(forget_ended(observation.clone(), registry.clone()));
        Ok(RunningEndpoints {
            data_plane,
            tokens,
            observation,
            _background: background,
            _name_server: self.name_server,
        })
    }
}

/// The zone of the endpoints' names, if the server is to be their name server.
fn zone(config: &Config, suffix: &str, endpoints: SocketAddr) -> anyhow::Result<Option<Arc<Zone>>> {
    let Some(dns) = &config.dns else { return Ok(None) };
    let answers = if dns.answers.is_empty() { vec![endpoints.ip()] } else { dns.answers.clone() };
    // Seconds since 1970 go up with each start, as serial numbers do (RFC 1982).
    let serial = Timestamp::now().as_second() as u32;
    Ok(Some(Zone::new(suffix, answers, serial)?.into()))
}

fn observation(config: &Config) -> anyhow::Result<Observation> {
    let open = |path: &std::path::PathBuf| {
        let log = AccessLog::open(path);
        log.with_context(|| format!("cannot open the access log {}", path.display()))
    };
    let access_log = config.access_log.as_ref().map(open).transpose()?.map(Arc::new);
    Ok(Observation { access_log, ..Observation::default() })
}

/// At SIGHUP files are opened or read anew: the access log, and a certificate that
/// the operator provides.
async fn on_hang_up(mut signal: Signal, observation: Arc<Observation>, certificate: Arc<Notify>) {
    while signal.recv().await.is_some() {
        if let Some(log) = &observation.access_log {
            log.reopen();
        }
        certificate.notify_one();
    }
}

/// Counters of microVMs that have ended go.
async fn forget_ended(observation: Arc<Observation>, registry: Arc<Registry>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        observation.counters.retain(|id| registry.knows(id));
    }
}
