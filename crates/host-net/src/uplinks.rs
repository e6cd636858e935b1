//! What the networks of one server share: address pairs, the host's ends of the uplinks, the
//! host's own addresses.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::cidr::Ipv4Cidr;
use crate::dns::{Relay, Upstreams};
use crate::error::{Error, Result};
use crate::links::{Address, Links};
use crate::namespace::{self, Uplink};
use crate::network::{Egress, HeldUplink, Network};
use crate::process::is_open_to_guests;
use crate::rules::{self, Closed};
use crate::sockets::SocketOpener;

/// What every network shares.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) table: String,
    pub(crate) veth_prefix: String,
    pub(crate) range: Ipv4Cidr,
    pub(crate) allowed: Vec<Ipv4Cidr>,
    pub(crate) namespace: OwnedFd,
    pub(crate) links: Links,
    pub(crate) opener: SocketOpener,
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) runtime: tokio::runtime::Handle,
    /// Address pairs in use, with the uplink once it exists.
    pub(crate) pairs: Mutex<HashMap<u32, Option<Live>>>,
    /// The host's addresses outside of [`Self::range`], as they were when somebody looked last.
    pub(crate) addresses: Mutex<BTreeSet<Ipv4Addr>>,
    /// [`crate::HostNet::sweep`] was called: what is held now is this server's own. One that fails
    /// to start leaves what it has found to the next.
    pub(crate) swept: AtomicBool,
    /// Networks were left for a later server; see [`Network::leave`].
    pub(crate) left: AtomicBool,
    pub(crate) closed: AtomicBool,
    pub(crate) closing: Notify,
    pub(crate) unwatched: Notify,
}

/// An uplink that exists.
#[derive(Debug)]
pub(crate) struct Live {
    /// Index of the host's end of the veth.
    host_index: u32,
    /// Where the other end is.
    namespace: Weak<OwnedFd>,
}

impl Host {
    pub(crate) fn pairs(&self) -> MutexGuard<'_, HashMap<u32, Option<Live>>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn addresses(&self) -> MutexGuard<'_, BTreeSet<Ipv4Addr>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the state of the host is no more this server's business.
    pub(crate) async fn watched_no_more(&self) {
        self.unwatched.notified().await;
    }

    /// Pair, index and namespace of every uplink that exists.
    pub(crate) fn live(&self) -> Vec<(u32, u32, Arc<OwnedFd>)> {
        let pairs = self.pairs();
        let live = pairs.iter().filter_map(|(&pair, live)| {
            let live = live.as_ref()?;
            Some((pair, live.host_index, live.namespace.upgrade()?))
        });
        live.collect()
    }

    /// Whether the uplink with this index is still held.
    pub(crate) fn holds(&self, pair: u32, index: u32) -> bool {
        matches!(self.pairs().get(&pair), Some(Some(live)) if live.host_index == index)
    }

    /// The host's addresses that are not of an uplink.
    pub(crate) async fn own_addresses(&self) -> Result<BTreeSet<Ipv4Addr>> {
        Ok(self.own(self.links.addresses().await?))
    }

    /// Those addresses that are not of an uplink; 127/8 is closed in any case. With each microVM of
    /// another server on this host an uplink comes and goes, of which nobody has to be told, as
    /// private ranges are closed; unless that one was opened.
    pub(crate) fn own(&self, addresses: Vec<Address>) -> BTreeSet<Ipv4Addr> {
        let is_open = |it: &Address| self.allowed.iter().any(|range| range.contains(it.ip));
        let of_host = |it: &Address| {
            !self.range.contains(it.ip) && !it.ip.is_loopback() && (!it.of_uplink || is_open(it))
        };
        addresses.into_iter().filter(of_host).map(|it| it.ip).collect()
    }

    /// Remembers the host's addresses; whether they are others than before.
    pub(crate) fn set_addresses(&self, now: BTreeSet<Ipv4Addr>) -> bool {
        let mut known = self.addresses();
        let changed = *known != now;
        *known = now;
        changed
    }

    /// Tells every namespace the host's addresses.
    pub(crate) async fn tell_addresses(&self) -> Result<()> {
        let rules = rules::namespace_host(self.range, &self.addresses().clone());
        let mut told = Ok(());
        for (_, _, namespace) in self.live() {
            // The others are told too.
            told = told.and(namespace::apply_inside(namespace, rules.clone()).await);
        }
        told
    }

    /// The table of a namespace, and the host's addresses that it is made with.
    fn namespace_table(&self, egress: &Egress) -> (String, BTreeSet<Ipv4Addr>) {
        let host = self.addresses().clone();
        let closed = Closed { range: self.range, allowed: &self.allowed, host: &host };
        let policy = if let Egress::Policy(held) = egress { Some(&*held.policy) } else { None };
        (rules::namespace_table(&closed, policy), host)
    }

    /// Whether no guest may reach an address, whatever else it may.
    pub(crate) fn is_closed(&self, address: Ipv4Addr) -> bool {
        self.range.contains(address)
            || self.addresses().contains(&address)
            || !is_open_to_guests(address, &self.allowed)
    }

    /// Makes a network from nothing, with a way out or without.
    pub(crate) async fn make(self: &Arc<Self>, has_uplink: bool) -> Result<Network> {
        let home = self.namespace.try_clone().map_err(Error::Namespace)?;
        let (table, host) = self.namespace_table(&Egress::Internet);
        if !has_uplink {
            let made = namespace::make(home, table, None).await?;
            let namespace = Arc::new(made.descriptor);
            return Ok(Network::new(namespace, Some(made.taps), None, None, Arc::clone(self)));
        }
        let reserved = self.reserve_pair().await?;
        let uplink = self.uplink(reserved.number);
        let made = namespace::make(home, table, Some(uplink.clone())).await?;
        let host_index = self.links.index(&uplink.host_name).await?;
        // The uplink has no address on the host and is down until here.
        self.set_up_host_end(reserved.number, host_index).await?;
        let relay = made
            .resolver
            .map(|(udp, tcp)| Relay::start(udp, tcp, Arc::clone(&self.upstreams)))
            .transpose()
            .map_err(Error::Resolver)?;
        let namespace = Arc::new(made.descriptor);
        let held = reserved.keep(Live { host_index, namespace: Arc::downgrade(&namespace) });
        let network =
            Network::new(Arc::clone(&namespace), Some(made.taps), relay, Some(held), Arc::clone(self));
        if self.closed.load(Ordering::Acquire) {
            network.release().await;
            return Err(Error::ShutDown);
        }
        // From here on it is told of changes.
        let now = self.addresses().clone();
        if now != host {
            namespace::apply_inside(namespace, rules::namespace_host(self.range, &now)).await?;
        }
        Ok(network)
    }

    /// Takes over what [`Self::make`] of an earlier server has made.
    pub(crate) async fn adopt(
        self: &Arc<Self>,
        namespace: OwnedFd,
        uplink: Option<&str>,
        egress: &Egress,
    ) -> Result<Network> {
        let namespace = Arc::new(namespace);
        let Some(uplink) = uplink else {
            return Ok(Network::new(namespace, None, None, None, Arc::clone(self)));
        };
        let foreign = || Error::NoInterface(uplink.to_owned());
        let number =
            uplink.strip_prefix(&self.veth_prefix).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let number = number.filter(|&number| number < self.range.pair_count()).ok_or_else(foreign)?;
        let host_index = self.links.index(uplink).await.map_err(|_| foreign())?;
        let live = Live { host_index, namespace: Arc::downgrade(&namespace) };
        {
            let mut pairs = self.pairs();
            if pairs.contains_key(&number) {
                return Err(foreign());
            }
            pairs.insert(number, Some(live));
        }
        // From here on the uplink goes with the network, also when the rest fails.
        let held = HeldUplink { pair: number };
        let mut network = Network::new(Arc::clone(&namespace), None, None, Some(held), Arc::clone(self));
        // The rules are this server's: an earlier version may have had others,
        // another configuration has.
        let (udp, tcp) = namespace::settle_inside(namespace, self.namespace_table(egress).0).await?;
        let relay = Relay::start(udp, tcp, Arc::clone(&self.upstreams)).map_err(Error::Resolver)?;
        network.serve(relay);
        if let Egress::Policy(held) = egress {
            network.hold_to(held.clone()).await?;
        }
        Ok(network)
    }

    /// Sets the host's end of an uplink up.
    pub(crate) async fn set_up_host_end(&self, pair: u32, index: u32) -> Result<()> {
        let Uplink { host_name, host_address, address } = self.uplink(pair);
        namespace::set_sysctl(&format!("net/ipv6/conf/{host_name}/disable_ipv6"), "1")?;
        self.links.add_address(index, host_address, 31).await?;
        self.links.up(index, None).await?;
        if self.links.interface_towards(address).await? == Some(index) {
            return Ok(());
        }
        self.links.replace_route(host_address.min(address), 31, index, host_address).await
    }

    /// Makes an uplink that is gone again.
    pub(crate) async fn make_again(
        &self,
        pair: u32,
        former_index: u32,
        namespace: Arc<OwnedFd>,
    ) -> Result<()> {
        let uplink = self.uplink(pair);
        let home = self.namespace.try_clone().map_err(Error::Namespace)?;
        namespace::wire_again(namespace, home, uplink.clone()).await?;
        let index = self.links.index(&uplink.host_name).await?;
        let still_held = {
            let mut pairs = self.pairs();
            match pairs.get_mut(&pair) {
                Some(Some(live)) if live.host_index == former_index => {
                    live.host_index = index;
                    true
                }
                _ => false,
            }
        };
        // Given back while it was made.
        if !still_held {
            return self.links.delete(index).await;
        }
        self.set_up_host_end(pair, index).await
    }

    /// Deletes the veths of this instance that belong to no network of this server.
    pub(crate) async fn delete_unheld(&self) -> Result<()> {
        let found = self.links.named(&self.veth_prefix).await?;
        // Looked up afterwards: whatever this server has made in the meantime is in it.
        let held: HashSet<String> = self.pairs().keys().map(|&number| self.uplink_name(number)).collect();
        for link in found.into_iter().filter(|link| !held.contains(&link.name)) {
            self.links.delete(link.index).await?;
        }
        Ok(())
    }

    fn uplink(&self, pair: u32) -> Uplink {
        let (host_address, address) = self.range.pair(pair);
        Uplink { host_name: self.uplink_name(pair), host_address, address }
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
        // The pair stays taken until the link is gone, and the watch does not take it
        // for one that was lost.
        let live = self.pairs().get_mut(&uplink.pair).and_then(Option::take);
        if let Some(live) = live
            && let Err(error) = self.links.delete(live.host_index).await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "a veth could not be deleted");
        }
        self.pairs().remove(&uplink.pair);
    }

    /// Reserves an address pair that neither this server nor anything else on the host uses. The
    /// search starts at a random place, so that servers that share the range hardly ever meet.
    async fn reserve_pair(self: &Arc<Self>) -> Result<ReservedPair> {
        let taken: HashSet<Ipv4Addr> = self.links.addresses().await?.into_iter().map(|it| it.ip).collect();
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
    fn keep(mut self, live: Live) -> HeldUplink {
        if let Some(host) = self.host.take() {
            host.pairs().insert(self.number, Some(live));
        }
        HeldUplink { pair: self.number }
    }
}

impl Drop for ReservedPair {
    fn drop(&mut self) {
        if let Some(host) = self.host.take() {
            host.pairs().remove(&self.number);
        }
    }
}
