//! The networks of one server: their start, the pool of those that are ready, their end.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::cidr::Ipv4Cidr;
use crate::dns::Upstreams;
use crate::error::{Error, Result};
use crate::links::{Links, UPLINKS};
use crate::namespace;
use crate::network::{Egress, HeldUplink, Network};
use crate::rules;
use crate::sockets::SocketOpener;
use crate::uplinks::Host;
use crate::watch::{Watch, blocking};

/// How long the pool waits before it is filled up again, so that making a namespace does not
/// compete with the launch that took one.
const REFILL_DELAY: Duration = Duration::from_millis(500);
/// How long the pool waits after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Settings of [`HostNet`].
#[derive(Debug, Clone)]
pub struct HostNetConfig {
    /// Name of this server on this host, 1 to 32 of `a-z`, `0-9`, `_`; part of the nftables table's
    /// name. Starting replaces what an earlier server of the same name left.
    pub instance: String,
    /// Where the addresses of the veths come from; addresses that the host has are left out, so
    /// servers can share a range.
    pub address_range: Ipv4Cidr,
    /// Private ranges that guests may reach.
    pub allow_egress_to: Vec<Ipv4Cidr>,
    /// Where the relay sends DNS queries; `None`: to the nameservers of `/etc/resolv.conf`, read
    /// again when it changes.
    pub upstream_resolvers: Option<Vec<SocketAddr>>,
    /// How many networks are kept ready.
    pub pool_size: usize,
}

impl HostNetConfig {
    /// The default of [`Self::address_range`]: 198.18.0.0/15 (RFC 2544, benchmarking),
    /// which no network uses.
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
    watch: Mutex<Option<JoinHandle<()>>>,
}

impl HostNet {
    /// Sets the host up and begins to fill the pool: [`Self::prepare`] and [`Self::sweep`].
    pub async fn start(config: HostNetConfig) -> Result<Arc<Self>> {
        let net = Self::prepare(config).await?;
        net.sweep().await?;
        Ok(net)
    }

    /// Sets the host up, in the network namespace of the calling thread. What an earlier server of
    /// the same name has left can be taken over ([`Self::adopt`]) until [`Self::sweep`].
    pub async fn prepare(config: HostNetConfig) -> Result<Arc<Self>> {
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !(1..=32).contains(&config.instance.len()) || !config.instance.chars().all(valid) {
            return Err(Error::InvalidInstance(config.instance));
        }
        let host = Arc::new(Host {
            table: format!("hearth_{}", config.instance),
            veth_prefix: veth_prefix(&config.instance),
            range: config.address_range,
            allowed: config.allow_egress_to,
            namespace: namespace::current()?,
            links: Links::open()?,
            opener: SocketOpener::start()?,
            upstreams: Arc::new(Upstreams::new(config.upstream_resolvers)),
            runtime: tokio::runtime::Handle::current(),
            pairs: Mutex::default(),
            addresses: Mutex::default(),
            swept: AtomicBool::new(false),
            left: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
            unwatched: Notify::new(),
        });
        let table = rules::host_table(&host.table, &host.veth_prefix, host.range, &host.allowed);
        let watch = Watch::start(Arc::clone(&host), table).await?;
        Ok(Arc::new(Self {
            host,
            pool: Mutex::default(),
            pool_size: config.pool_size,
            refill: Arc::new(Notify::new()),
            refiller: Mutex::default(),
            watch: Mutex::new(Some(watch)),
        }))
    }

    /// Takes over the network of a guest that an earlier server has started: its namespace, and the
    /// name of its uplink on the host ([`Network::uplink`]). DNS is served in it again.
    ///
    /// Flows that its policy allows go on; its domains have to be asked for again.
    pub async fn adopt(&self, namespace: OwnedFd, uplink: Option<&str>, egress: &Egress) -> Result<Network> {
        self.host.adopt(namespace, uplink, egress).await
    }

    /// Removes what an earlier server of the same name has left and nobody has taken over, and
    /// begins to fill the pool. To be called once.
    pub async fn sweep(self: &Arc<Self>) -> Result<()> {
        // A server that was killed leaves its veths for as long as the kernel keeps trying to end
        // the TCP connections in their namespaces.
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
        let mut network = match &egress {
            Egress::None => return self.host.make(false).await,
            Egress::Internet | Egress::Policy(_) => {
                let ready = self.pool().pop_front();
                self.refill.notify_one();
                match ready {
                    Some(network) => network,
                    None => self.host.make(true).await?,
                }
            }
        };
        if let Egress::Policy(held) = egress {
            network.hold_to(held).await?;
        }
        Ok(network)
    }

    /// Removes every veth; networks still held lose their uplink, but not those that were left
    /// ([`Network::leave`]). What is in them otherwise goes when their holders drop them. The table
    /// stays if a network was left: it is what keeps its guest apart from the host. Before
    /// [`Self::sweep`], nothing is removed.
    pub async fn shutdown(&self) -> Result<()> {
        self.host.closed.store(true, Ordering::Release);
        self.host.closing.notify_one();
        self.host.unwatched.notify_one();
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watch) = watch {
            // It ends by itself; an error could only be its panic. Until it has ended it might
            // restore what goes now.
            let _ = watch.await;
        }
        if !self.host.swept.load(Ordering::Acquire) {
            return Ok(());
        }
        let refiller = self.refiller.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(refiller) = refiller {
            // It ends by itself; an error could only be its panic, after which there is as
            // little left to wait for.
            let _ = refiller.await;
        }
        let ready = std::mem::take(&mut *self.pool());
        for network in ready {
            network.release().await;
        }
        let left: Vec<u32> = {
            let pairs = self.host.pairs();
            pairs.iter().filter_map(|(&pair, live)| live.as_ref().map(|_| pair)).collect()
        };
        for pair in left {
            self.host.give_back(HeldUplink { pair }).await;
        }
        if self.host.left.load(Ordering::Acquire) {
            return Ok(());
        }
        let rules = rules::no_host_table(&self.host.table);
        blocking(move || rules::apply("the host", &rules)).await
    }

    fn pool(&self) -> MutexGuard<'_, VecDeque<Network>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills the pool up at the start and whenever something was taken, until the `HostNet` is
/// dropped or shut down.
async fn keep_filled(net: Weak<HostNet>, host: Arc<Host>, refill: Arc<Notify>) {
    loop {
        let mut delay = REFILL_DELAY;
        while let Some(net) = net.upgrade().filter(|net| net.pool().len() < net.pool_size) {
            match host.make(true).await {
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
        self.host.unwatched.notify_one();
    }
}

/// `hv` and five hexadecimal digits of the instance's name (FNV-1a, which stays the same in every
/// build: the names must be found again after a restart).
fn veth_prefix(instance: &str) -> String {
    let hash = instance
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{UPLINKS}{:05x}", hash >> 12)
}
