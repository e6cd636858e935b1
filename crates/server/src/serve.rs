//! `hearth serve`: puts the parts together, says that it is ready, and takes them apart again.

use hearth_records::{CurrentLimits, Logs as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hearth_api::AccountId;
use hearth_confined::Confinement;
use hearth_control_plane::{ControlPlaneConfig, Services};
use hearth_egress::Egresses;
use hearth_gateway::{Neighbours, WholeApi};
use hearth_guest::{Artefacts, GuestFactory, HostNetworks, UidPool};
use hearth_host_net::{HostNet, HostNetConfig};
use hearth_identity::{Identities, PolicyLogRights, RootKey};
use hearth_image_builder::{ArchiveLimits, BaseImages, ImageBuilder, ImageBuilderConfig, Readers};
use hearth_lifecycle::{HooksPort, Registry, RegistryConfig};
use hearth_s3_api::ObjectStorage;
use hearth_service::pages::PageKey;
use hearth_snapshots::Snapshots;
use hearth_store_sqlite::Store;
use hearth_vmm::{Qemu, QemuConfig, Vmm as _};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::adapters::{Artifacts, OurEndpoints};
use crate::api_listener::Admission;
use crate::config::{Config, OnStop, ServeArgs};
use crate::data_dir::Reserve;
use crate::endpoints::Endpoints;
use crate::env::ServerAddress;
use crate::{access, api_listener, config_checks, data_dir, log_filter, open_files, pulls, retention};

/// How long requests under way may take when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// Host memory that a VMM process may use beyond its guest's RAM, in MiB.
const VMM_OVERHEAD_MIB: u32 = 512;

/// The parts that have something to put back.
struct Parts {
    store: Arc<Store>,
    identities: Arc<Identities>,
    host_net: Arc<HostNet>,
    registry: Arc<Registry>,
    builder: Arc<ImageBuilder>,
}

/// What the planes are given besides.
struct Access {
    account: AccountId,
    root_keys: Vec<RootKey>,
    limits: CurrentLimits,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let filter = log_filter::from(std::env::var("HEARTH_LOG").ok());
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    let config = Config::load(&args)?;
    if !nix::unistd::geteuid().is_root() {
        bail!("hearth serve needs root (it makes network namespaces and confines VMM processes); use sudo");
    }
    let mut stop = stop_signal()?;
    let data_dir = std::path::absolute(&args.data_dir)?;
    data_dir::make_files_private();
    let _lock = data_dir::lock(&data_dir)?;
    data_dir::check_whole(&data_dir)?;
    let api_listener = bind(config.api_addr, "--api-addr").await?;
    let endpoint_listeners = bind_endpoints(config.endpoint_addr).await?;
    let reserve = Reserve::spend(&data_dir);
    let access = access(&config, &data_dir)?;
    let possible = open_files::provide(config.endpoint.wanted_connections());
    let admission = Admission::new(&config.api, possible.api.min(config.api.connections as usize).max(1))?;
    let endpoints =
        Endpoints::open(&config, &data_dir, endpoint_listeners[0].local_addr()?, possible).await?;
    let limits = config.quotas.storage_limits();
    let storage = ObjectStorage::open(&data_dir.join("s3"), &config.region, &access.account, limits)?;
    let parts = tokio::select! {
        parts = start(&config, &data_dir, &access, storage.clone()) => parts?,
        () = stop.recv() => return Ok(()),
    };
    let served = serve(
        &config,
        &data_dir,
        &access,
        storage,
        &parts,
        (admission, api_listener),
        (endpoints, endpoint_listeners),
        &reserve,
        stop,
    )
    .await;
    parts.shut_down(config.on_stop).await;
    served
}

/// SIGTERM or SIGINT, whichever comes first.
struct StopSignal {
    term: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

fn stop_signal() -> anyhow::Result<StopSignal> {
    Ok(StopSignal { term: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
}

impl StopSignal {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn access(config: &Config, data_dir: &Path) -> anyhow::Result<Access> {
    let account = AccountId::from_stored(config.account_id.clone());
    let mut root_keys = vec![access::root_key(data_dir, &account, true)?];
    for other in config.accounts.iter().filter(|other| **other != config.account_id) {
        root_keys.push(access::root_key(data_dir, &AccountId::from_stored(other), false)?);
    }
    Ok(Access { account, root_keys, limits: CurrentLimits::new(config.quotas.limits()) })
}

async fn start(
    config: &Config,
    data_dir: &Path,
    access: &Access,
    storage: ObjectStorage,
) -> anyhow::Result<Parts> {
    let log_retention = Some(config.logs.retention_days).filter(|days| *days > 0);
    let store = Store::open(&data_dir.join("hearth.db"))
        .await?
        .with_log_retention(log_retention)
        .with_limits(access.limits.clone());
    store.adopt_log_groups(&access.account).await?;
    let identities = Identities::open(Arc::new(store.clone()), access.root_keys.clone()).await?;
    let identities = Arc::new(identities.in_region(&config.region));
    let rights = PolicyLogRights { identities: identities.clone(), region: config.region.clone() };
    let store = Arc::new(store.with_log_rights(Arc::new(rights)));
    let code = Artifacts { storage, identities: identities.clone() };
    crate::owned::check(&config.build.store_tool)?;
    let artefacts = Artefacts::load(&config.guest.directory, &config.guest.initrd)?;
    let qemu = Qemu::new(QemuConfig {
        program: config.guest.qemu.clone(),
        verdict_file: Some(data_dir.join("accelerator.json")),
        ..QemuConfig::default()
    })
    .await?;
    let capabilities = qemu.capabilities();
    tracing::info!(vmm = capabilities.description, "virtual machines");
    for (limit, enforced) in [("memory", &capabilities.memory_limit), ("CPU", &capabilities.cpu_limit)] {
        if let Err(reason) = enforced {
            tracing::warn!("{limit} limits of VMM processes are not enforced: {reason}");
        }
    }
    let instance = blake3::hash(data_dir.as_os_str().as_encoded_bytes());
    let host_net = HostNet::prepare(host_net_config(config, &instance)?).await?;
    let records = (store, identities, code);
    let started = start_on(config, data_dir, records, artefacts, Arc::new(qemu), &host_net, &instance).await;
    if started.is_err()
        && let Err(error) = host_net.shutdown().await
    {
        tracing::error!(%error, "the host's network rules could not be removed");
    }
    started
}

fn host_net_config(config: &Config, instance: &blake3::Hash) -> anyhow::Result<HostNetConfig> {
    let network = &config.network;
    let opened = |text: &String| config_checks::range("network.allow_egress_to", text);
    Ok(HostNetConfig {
        instance: instance.to_hex()[..8].to_owned(),
        address_range: match &network.address_range {
            None => HostNetConfig::DEFAULT_ADDRESS_RANGE,
            Some(text) => config_checks::links_range(text)?,
        },
        allow_egress_to: network.allow_egress_to.iter().map(opened).collect::<anyhow::Result<_>>()?,
        upstream_resolvers: network.resolvers.clone(),
        pool_size: network.pool_size,
    })
}

/// Each data directory has a range of 65,536 user ids of its own: far above those of people
/// and packages, and below 2³¹, which some programs cannot read. Two directories share one
/// in 1 of 16,383 cases.
fn derived_uid(instance: &blake3::Hash) -> u32 {
    let [first, second, ..] = *instance.as_bytes();
    0x4000_0000 + u32::from(u16::from_le_bytes([first, second]) % 0x3fff) * 0x1_0000
}

async fn start_on(
    config: &Config,
    data_dir: &Path,
    (store, identities, code): (Arc<Store>, Arc<Identities>, Artifacts),
    artefacts: Artefacts,
    qemu: Arc<Qemu>,
    host_net: &Arc<HostNet>,
    instance: &blake3::Hash,
) -> anyhow::Result<Parts> {
    let snapshots = Snapshots::open(data_dir)?;
    let uids = UidPool::new(config.guest.first_uid.unwrap_or_else(|| derived_uid(instance)));
    let confinement = Confinement::new(uids.clone());
    if let Err(reason) = confinement.memory_limit() {
        tracing::warn!("readers of what tenants bring have limits of each process only: {reason}");
    }
    let guests = GuestFactory {
        vmm: qemu,
        networks: Arc::new(HostNetworks(host_net.clone())),
        artefacts,
        uids,
        run_root: data_dir.join("run"),
        endings: hearth_guest::Endings::default(),
    };
    let egresses = Egresses::new(store.clone());
    let node = crate::node::id(data_dir, &*store).await?;
    let registry = Registry::new(RegistryConfig {
        node: node.clone(),
        records: hearth_lifecycle::records::Records::all_in(store.clone()),
        guests: guests.clone(),
        egresses: egresses.clone(),
        snapshots: snapshots.clone(),
        vmm_overhead_mib: VMM_OVERHEAD_MIB,
        hooks_port: if config.hooks_port_reachable { HooksPort::Open } else { HooksPort::Closed },
        sealing: crate::sealing::key(data_dir)?,
    });
    let build = &config.build;
    let builder = ImageBuilder::new(ImageBuilderConfig {
        node,
        store: store.clone(),
        guests,
        egresses,
        snapshots,
        base_images: BaseImages::new(pulls::config(config, data_dir)?),
        artifacts: Arc::new(code),
        readers: Readers::new(confinement),
        archive_limits: ArchiveLimits { zip_bytes: build.zip_bytes, ..ArchiveLimits::default() },
        ca_bundle: build.ca_bundle.clone(),
        account_bytes: config.quotas.images_gib.saturating_mul(1 << 30),
        free_bytes: build.minimum_free_disk_mib.saturating_mul(1 << 20),
        concurrent_builds: build.concurrent_builds,
        concurrent_builds_per_account: pulls::per_account(config).0,
        build_vcpus: build.vcpus,
        build_memory_mib: build.memory_mib,
        build_timeout_seconds: build.timeout_seconds,
        listen_timeout_seconds: build.listen_timeout_seconds,
        refuse_findings: build.refuse_findings,
        any_architecture: config.any_architecture,
    });
    let recovery = hearth_lifecycle::recover::find(&registry).await?;
    for name in hearth_vmm::leftovers::remove(&data_dir.join("run"), &recovery.names()) {
        registry.quarantine(&name);
    }
    builder.recover().await?;
    host_net.sweep().await?;
    recovery.finish(&registry).await;
    Ok(Parts { store, identities, host_net: host_net.clone(), registry, builder })
}

#[expect(clippy::too_many_arguments, reason = "the one place where everything meets")]
async fn serve(
    config: &Config,
    data_dir: &Path,
    access: &Access,
    storage: ObjectStorage,
    parts: &Parts,
    (admission, api_listener): (Admission, TcpListener),
    (endpoints, endpoint_listeners): (Endpoints, Vec<TcpListener>),
    reserve: &Reserve<'_>,
    mut stop: StopSignal,
) -> anyhow::Result<()> {
    let api_addr = api_listener.local_addr()?;
    let endpoint_addr = endpoint_listeners[0].local_addr()?;
    let shared = (&parts.store, &parts.identities, &access.limits);
    let endpoints = endpoints.serve(endpoint_listeners, shared, &parts.registry).await?;
    let identities = parts.identities.clone();
    let published = |config: &Config| {
        let (builds, pulls) = pulls::per_account(config);
        config.quotas.published(config.rates, builds, pulls)
    };
    let neighbours = Neighbours::new(
        &storage,
        parts.store.clone(),
        &identities,
        &config.region,
        PageKey(endpoints.tokens.keys().derive("nextToken")),
        (published(config), published(&Config::default())),
        &config.api_names,
    );
    let control_plane = ControlPlaneConfig {
        operator: access.account.clone(),
        region: config.region.clone(),
        endpoint_domain: config.endpoint_domain.clone(),
        endpoint_port: endpoint_addr.port(),
        minimum_idle_seconds: config.minimum_idle_seconds,
        maximum_duration_seconds: config.quotas.maximum_duration_seconds,
        limits: access.limits.clone(),
        rates: config.rates,
        minimum_available_memory_mib: config.quotas.minimum_available_memory_mib,
        lenient_image_names: config.lenient_image_names,
        default_egress: config.network.default_egress(),
        any_architecture: config.any_architecture,
    };
    let services = Services {
        store: parts.store.clone(),
        node: parts.registry.clone(),
        image_builder: parts.builder.clone(),
        identities,
        token_keys: endpoints.tokens.keys(),
        endpoints: Arc::new(OurEndpoints {
            counters: endpoints.observation.counters.clone(),
            token_keys: endpoints.tokens.clone(),
        }),
    };
    let router = hearth_control_plane::router(control_plane, services);
    let whole = WholeApi::new(router, neighbours.router(), &config.api_names);
    let stopping = CancellationToken::new();
    let api = tokio::spawn(api_listener::serve(api_listener, whole, admission, stopping.clone()));
    let limits = retention::Limits::new(config);
    let storage = storage.clone();
    let follow_rules = move || {
        let storage = storage.clone();
        async move { storage.expire(jiff::Timestamp::now()).await }
    };
    let sweeping = retention::keep_sweeping(parts.store.clone(), limits, follow_rules);
    announce(config, data_dir, api_addr, endpoint_addr)?;
    reserve.keep();
    stop.recv().await;
    tracing::info!("stopping");
    stopping.cancel();
    drop(sweeping);
    let api_abort = api.abort_handle();
    let ((), api_ended) =
        tokio::join!(endpoints.data_plane.shutdown(GRACE), tokio::time::timeout(GRACE, api));
    if api_ended.is_err() {
        api_abort.abort();
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the one line that scripts wait for")]
fn announce(config: &Config, data_dir: &Path, api: SocketAddr, endpoints: SocketAddr) -> anyhow::Result<()> {
    let address = ServerAddress {
        api_url: format!("http://{api}"),
        endpoint_addr: endpoints.to_string(),
        region: config.region.clone(),
        endpoint_domain: config.endpoint_domain.clone(),
    };
    address.write(data_dir)?;
    println!("hearth ready api={} endpoints={endpoints}", address.api_url);
    Ok(())
}

impl Parts {
    /// Builds end, running microVMs are suspended or left; then the network goes,
    /// but for what is left.
    async fn shut_down(self, on_stop: OnStop) {
        let end_microvms = async {
            match on_stop {
                OnStop::KeepRunning => {
                    tracing::info!("running microVMs run on until the next server takes them over");
                    self.registry.leave().await;
                }
                OnStop::Suspend => self.registry.shutdown().await,
            }
        };
        tokio::join!(self.builder.shutdown(), end_microvms);
        if let Err(error) = self.host_net.shutdown().await {
            tracing::error!(%error, "the host's network rules could not be removed");
        }
        self.store.close().await;
    }
}

async fn bind(address: SocketAddr, argument: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another address with {argument}"))
}

/// Names under `localhost` resolve to ::1 first, so an endpoint on 127.0.0.1 listens there
/// too where IPv6 exists.
async fn bind_endpoints(address: SocketAddr) -> anyhow::Result<Vec<TcpListener>> {
    let first = bind(address, "--endpoint-addr").await?;
    let port = first.local_addr()?.port();
    let mut listeners = vec![first];
    if address.ip() == IpAddr::from([127, 0, 0, 1]) {
        match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
            Ok(second) => listeners.push(second),
            Err(error) => tracing::warn!(%error, port, "the endpoints do not listen on [::1]"),
        }
    }
    Ok(listeners)
}
