//! The host's side: its nftables table, address pairs and the pool of ready networks.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::cidr::Ipv4Cidr;
use crate::dns::{Relay, Upstreams};
use crate::error::{Error, Result};
use crate::links::Links;
use crate::namespace::{self, Uplink};
use crate::network::{Egress, HeldUplink, Network};
use crate::rules;
use crate::sockets::SocketOpener;

/// How long the pool waits before it is filled up again, so that making a namespace does not compete with the
/// launch that took one.
const REFILL_DELAY: Duration = Duration::from_millis(500);
/// How long the pool waits after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Settings of [`HostNet`].
#[derive(Debug, Clone)]
pub struct HostNetConfig {
    /// Name of this server on this host, 1 to 32 of `a-z`, `0-9`, `_`; part of the nftables table's name. Starting
    /// replaces what an earlier server of the same name left.
    pub instance: String,
    /// Where the addresses of the veths come from; addresses that the host has are left out, so servers can share a
    /// range.
    pub address_range: Ipv4Cidr,
    /// Private ranges that guests may reach all the same.
    pub allow_egress_to: Vec<Ipv4Cidr>,
    /// Where the relay sends DNS queries; `None`: to the nameservers of `/etc/resolv.conf`, read again when it
    /// changes.
    pub upstream_resolvers: Option<Vec<SocketAddr>>,
    /// How many networks are kept ready.
    pub pool_size: usize,
}

impl HostNetConfig {
    /// The default of [`Self::address_range`]: 198.18.0.0/15 (RFC 2544, benchmarking), which no network uses.
    pub const DEFAULT_ADDRESS_RANGE: Ipv4Cidr =
        match Ipv4Cidr::new(std::net::Ipv4Addr::new(198, 18, 0, 0), 15) {
            Some(range) => range,
            None => panic!("a valid range"),
        };
    /// The default of [`Self::pool_size`].
    pub const DEFAULT_POOL_SIZE: usize = 2;
}

/// The networks of one server.
#[derive(Debug)]
pub struct HostNet {
    host: Arc<Host>,
    pool: Mutex<VecDeque<Network>>,
    pool_size: usize,
    refill: Arc<Notify>,
    refiller: Mutex<Option<JoinHandle<()>>>,
}

/// What every network shares.
#[derive(Debug)]
pub(crate) struct Host {
    table: String,
    veth_prefix: String,
    range: Ipv4Cidr,
    namespace: OwnedFd,
    links: Links,
    opener: SocketOpener,
    upstreams: Arc<Upstreams>,
    runtime: tokio::runtime::Handle,
    /// Address pairs in use, with the index of the veth once it exists.
    pairs: Mutex<HashMap<u32, Option<u32>>>,
    /// [`HostNet::sweep`] was called: what is held now is this server's own. One that fails to start leaves what it has
    /// found to the next.
    swept: AtomicBool,
    /// Networks were left for a later server; see [`Network::leave`].
    left: AtomicBool,
    closed: AtomicBool,
    closing: Notify,
}

impl HostNet {
    /// Sets the host up and begins to fill the pool: [`Self::prepare`] and [`Self::sweep`].
    pub async fn start(config: HostNetConfig) -> Result<Arc<Self>> {
        let net = Self::prepare(config).await?;
        net.sweep().await?;
        Ok(net)
    }

    /// Sets the host up, in the network namespace of the calling thread. What an earlier server of the same name has
    /// left can be taken over ([`Self::adopt`]) until [`Self::sweep`].
    pub async fn prepare(config: HostNetConfig) -> Result<Arc<Self>> {
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !(1..=32).contains(&config.instance.len()) || !config.instance.chars().all(valid) {
            return Err(Error::InvalidInstance(config.instance));
        }
        let host = Arc::new(Host {
            table: format!("hearth_{}", config.instance),
            veth_prefix: veth_prefix(&config.instance),
            range: config.address_range,
            namespace: namespace::current()?,
            links: Links::open()?,
            opener: SocketOpener::start()?,
            upstreams: Arc::new(Upstreams::new(config.upstream_resolvers)),
            runtime: tokio::runtime::Handle::current(),
            pairs: Mutex::default(),
            swept: AtomicBool::new(false),
            left: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
        });
        let table =
            rules::host_table(&host.table, &host.veth_prefix, config.address_range, &config.allow_egress_to);
        apply_on_host(table).await?;
        namespace::set_sysctl("net/ipv4/ip_forward", "1")?;
        Ok(Arc::new(Self {
            host,
            pool: Mutex::default(),
            pool_size: config.pool_size,
            refill: Arc::new(Notify::new()),
            refiller: Mutex::default(),
        }))
    }

    /// Takes over the network of a guest that an earlier server has started: its namespace, and the name of its uplink on
    /// the host ([`Network::uplink`]). DNS is served in it again.
    pub async fn adopt(&self, namespace: OwnedFd, uplink: Option<&str>) -> Result<Network> {
        self.host.adopt(namespace, uplink).await
    }

    /// Removes what an earlier server of the same name has left and nobody has taken over, and begins to fill the pool.
    /// To be called once.
    pub async fn sweep(self: &Arc<Self>) -> Result<()> {
        // A server that was killed leaves its veths for as long as the kernel keeps trying to end the TCP connections
        // in their namespaces.
        self.host.swept.store(true, Ordering::Release);
        self.host.delete_unheld().await?;
        let refiller =
            tokio::spawn(keep_filled(Arc::downgrade(self), Arc::clone(&self.host), Arc::clone(&self.refill)));
        *self.refiller.lock().unwrap_or_else(PoisonError::into_inner) = Some(refiller);
        Ok(())
    }

    /// A network: from the pool, or made now when the pool is empty.
    pub async fn acquire(&self, egress: Egress) -> Result<Network> {
        if self.host.closed.load(Ordering::Acquire) {
            return Err(Error::ShutDown);
        }
        if egress == Egress::Internet {
            let ready = self.pool().pop_front();
            self.refill.notify_one();
            if let Some(network) = ready {
                return Ok(network);
            }
        }
        self.host.make(egress).await
    }

    /// Removes every veth; networks still held lose their uplink, but not those that were left ([`Network::leave`]). What
    /// is in them otherwise goes when their holders drop them. The table stays if a network was left: it is what keeps
    /// its guest apart from the host. Before [`Self::sweep`], nothing is removed.
    pub async fn shutdown(&self) -> Result<()> {
        self.host.closed.store(true, Ordering::Release);
        self.host.closing.notify_one();
        if !self.host.swept.load(Ordering::Acquire) {
            return Ok(());
        }
        let refiller = self.refiller.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(refiller) = refiller {
            // It ends by itself; an error could only be its panic, after which there is as little left to wait for.
            let _ = refiller.await;
        }
        let ready = std::mem::take(&mut *self.pool());
        for network in ready {
            network.release().await;
        }
        let left: Vec<_> =
            self.host.pairs().iter().filter_map(|(&pair, &index)| Some((pair, index?))).collect();
        for (pair, host_index) in left {
            self.host.give_back(HeldUplink { host_index, pair }).await;
        }
        if self.host.left.load(Ordering::Acquire) {
            return Ok(());
        }
        apply_on_host(rules::no_host_table(&self.host.table)).await
    }

    fn pool(&self) -> MutexGuard<'_, VecDeque<Network>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills the pool up at the start and whenever something was taken, until the `HostNet` is dropped or shut down.
async fn keep_filled(net: Weak<HostNet>, host: Arc<Host>, refill: Arc<Notify>) {
    loop {
        let mut delay = REFILL_DELAY;
        while let Some(net) = net.upgrade().filter(|net| net.pool().len() < net.pool_size) {
            match host.make(Egress::Internet).await {
                Ok(network) => net.pool().push_back(network),
                Err(Error::ShutDown) => return,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "no network could be made in advance"
                    );
                    delay = RETRY_DELAY;
                    refill.notify_one();
                    break;
                }
            }
        }
        tokio::select! {
            () = refill.notified() => {}
            () = host.closing.notified() => return,
        }
        if tokio::time::timeout(delay, host.closing.notified()).await.is_ok() {
            return;
        }
    }
}

impl Drop for HostNet {
    fn drop(&mut self) {
        self.host.closing.notify_one();
    }
}

impl Host {
    pub(crate) fn opener(&self) -> &SocketOpener {
        &self.opener
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    fn pairs(&self) -> MutexGuard<'_, HashMap<u32, Option<u32>>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a network from nothing.
    async fn make(self: &Arc<Self>, egress: Egress) -> Result<Network> {
        let home = self.namespace.try_clone().map_err(Error::Namespace)?;
        if egress == Egress::None {
            let made = namespace::make(home, None).await?;
            return Ok(Network::new(made.descriptor, Some(made.taps), None, None, Arc::clone(self)));
        }
        let reserved = self.reserve_pair().await?;
        let (host_address, address) = self.range.pair(reserved.number);
        let host_name = self.uplink_name(reserved.number);
        let uplink = Uplink { host_name, host_address, address };
        let made = namespace::make(home, Some(uplink.clone())).await?;
        // The uplink has no address on the host and is down until here.
        namespace::set_sysctl(&format!("net/ipv6/conf/{}/disable_ipv6", uplink.host_name), "1")?;
        let host_index = self.links.index(&uplink.host_name).await?;
        self.links.add_address(host_index, host_address, 31).await?;
        self.links.up(host_index, None).await?;
        let relay = made
            .resolver
            .map(|(udp, tcp)| Relay::start(udp, tcp, Arc::clone(&self.upstreams)))
            .transpose()
            .map_err(Error::Resolver)?;
        let held = reserved.keep(host_index);
        let network = Network::new(made.descriptor, Some(made.taps), relay, Some(held), Arc::clone(self));
        if self.closed.load(Ordering::Acquire) {
            network.release().await;
            return Err(Error::ShutDown);
        }
        Ok(network)
    }

    /// Takes over what [`Self::make`] of an earlier server has made.
    async fn adopt(self: &Arc<Self>, namespace: OwnedFd, uplink: Option<&str>) -> Result<Network> {
        let Some(uplink) = uplink else {
            return Ok(Network::new(namespace, None, None, None, Arc::clone(self)));
        };
        let foreign = || Error::NoInterface(uplink.to_owned());
        let number =
            uplink.strip_prefix(&self.veth_prefix).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let number = number.ok_or_else(foreign)?;
        let host_index = self.links.index(uplink).await.map_err(|_| foreign())?;
        if self.pairs().insert(number, Some(host_index)).is_some() {
            return Err(foreign());
        }
        // From here on the uplink goes with the network, also when the rest fails.
        let held = HeldUplink { host_index, pair: number };
        let mut network = Network::new(namespace, None, None, Some(held), Arc::clone(self));
        let (udp, tcp) = namespace::resolver_inside(network.namespace()).await?;
        let relay = Relay::start(udp, tcp, Arc::clone(&self.upstreams)).map_err(Error::Resolver)?;
        network.serve(relay);
        Ok(network)
    }

    /// Deletes the veths of this instance that belong to no network of this server.
    async fn delete_unheld(&self) -> Result<()> {
        let found = self.links.named(&self.veth_prefix).await?;
        // Looked up afterwards: whatever this server has made in the meantime is in it.
        let held: HashSet<String> = self.pairs().keys().map(|&number| self.uplink_name(number)).collect();
        for (index, _) in found.into_iter().filter(|(_, name)| !held.contains(name)) {
            self.links.delete(index).await?;
        }
        Ok(())
    }

    /// Name of the host's end of an uplink.
    pub(crate) fn uplink_name(&self, pair: u32) -> String {
        format!("{}{pair:05x}", self.veth_prefix)
    }

    /// Forgets an uplink, which stays.
    pub(crate) fn leave(&self, uplink: Option<HeldUplink>) {
        self.left.store(true, Ordering::Release);
        if let Some(uplink) = uplink {
            self.pairs().remove(&uplink.pair);
        }
    }

    /// Deletes an uplink and frees its addresses.
    pub(crate) async fn give_back(&self, uplink: HeldUplink) {
        if !self.swept.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = self.links.delete(uplink.host_index).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a veth could not be deleted");
        }
        self.pairs().remove(&uplink.pair);
    }

    /// Reserves an address pair that neither this server nor anything else on the host uses. The search starts at a
    /// random place, so that servers that share the range hardly ever meet.
    async fn reserve_pair(self: &Arc<Self>) -> Result<ReservedPair> {
        let taken = self.links.addresses().await?;
        let count = self.range.pair_count();
        let start = rand::random::<u32>();
        let mut pairs = self.pairs();
        for offset in 0..count {
            let number = start.wrapping_add(offset) % count;
            let (first, second) = self.range.pair(number);
            if !pairs.contains_key(&number) && !taken.contains(&first) && !taken.contains(&second) {
                pairs.insert(number, None);
                return Ok(ReservedPair { number, host: Some(Arc::clone(self)) });
            }
        }
        Err(Error::RangeExhausted(self.range))
    }
}

/// A pair that is freed when making the network fails.
struct ReservedPair {
    number: u32,
    host: Option<Arc<Host>>,
}

impl ReservedPair {
    fn keep(mut self, host_index: u32) -> HeldUplink {
        if let Some(host) = self.host.take() {
            host.pairs().insert(self.number, Some(host_index));
        }
        HeldUplink { host_index, pair: self.number }
    }
}

impl Drop for ReservedPair {
    fn drop(&mut self) {
        if let Some(host) = self.host.take() {
            host.pairs().remove(&self.number);
        }
    }
}

async fn apply_on_host(rules: String) -> Result<()> {
    tokio::task::spawn_blocking(move || rules::apply("the host", &rules))
        .await
        .map_err(|error| Error::Thread(std::io::Error::other(error)))?
}

/// `hv` and five hexadecimal digits of the instance's name (FNV-1a, which stays the same in every build: the names
/// must be found again after a restart).
fn veth_prefix(instance: &str) -> String {
    let hash = instance
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("hv{:05x}", hash >> 12)
}
