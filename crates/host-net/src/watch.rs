//! Watches what other programs on the host can take away, and restores it: the nftables table,
//! forwarding, the host's ends of the uplinks with their addresses and routes.
//!
//! `nft flush ruleset`, which a restart of nftables.service runs, removes the table; interface
//! managers set links down or delete their addresses. Each is told to the log and mended within a
//! second. What the host is asked in between is cheap: the kernel rings when something has changed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::bell::Bell;
use crate::error::{Error, Result};
use crate::links::Link;
use crate::namespace;
use crate::rules;
use crate::uplinks::Host;

/// Between two looks.
const TICK: Duration = Duration::from_millis(400);
/// Looks after which everything is looked at, whether or not something has rung.
const FULL_LOOK: u32 = 75;
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// The watch over one server's state on the host.
#[derive(Debug)]
pub(crate) struct Watch {
    host: Arc<Host>,
    /// The host's table, as it is given to `nft`.
    rules: String,
    /// The host's table, as `nft` prints it.
    listing: Vec<u8>,
    nftables: Bell,
    links: Bell,
    ticks: u32,
}

impl Watch {
    /// Makes the table, switches forwarding on and begins to watch; to be called in the
    /// host's network namespace.
    pub(crate) async fn start(host: Arc<Host>, rules: String) -> Result<JoinHandle<()>> {
        let (nftables, links) = (Bell::of_nftables()?, Bell::of_links()?);
        let mut watch = Self { host, rules, listing: Vec::new(), nftables, links, ticks: 0 };
        watch.make_table().await?;
        namespace::set_sysctl("net/ipv4/ip_forward", "1")?;
        watch.host.set_addresses(watch.host.own_addresses().await?);
        Ok(tokio::spawn(watch.run()))
    }

    async fn run(mut self) {
        loop {
            tokio::select! {
                () = self.host.watched_no_more() => return,
                () = tokio::time::sleep(TICK) => {}
            }
            if let Err(error) = self.look().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the network of the host is not as it should be and could not be restored; trying again"
                );
            }
        }
    }

    async fn look(&mut self) -> Result<()> {
        self.ticks = self.ticks.wrapping_add(1);
        let full = self.ticks.is_multiple_of(FULL_LOOK);
        let (rules, links) = (self.nftables.has_rung() || full, self.links.has_rung() || full);
        // One that fails is looked at again with the next full look at the latest, and must not
        // keep the others from theirs.
        let table = if rules || self.listing.is_empty() { self.look_at_table().await } else { Ok(()) };
        let forwarding = look_at_forwarding();
        let links = if links { self.look_at_links().await } else { Ok(()) };
        if links.is_err() {
            self.ticks = FULL_LOOK - 1;
        }
        table.and(forwarding).and(links)
    }

    async fn look_at_table(&mut self) -> Result<()> {
        let table = self.host.table.clone();
        let found = blocking(move || rules::list(&table)).await;
        if matches!(&found, Ok(listing) if *listing == self.listing && !listing.is_empty()) {
            return Ok(());
        }
        tracing::warn!(
            table = self.host.table,
            "the nftables table of this server was removed or changed by another program (nft flush ruleset, a restart \
             of nftables.service, a firewall manager); it is restored"
        );
        self.make_table().await
    }

    async fn make_table(&mut self) -> Result<()> {
        // Until it is known what there is, there is nothing to compare with.
        self.listing.clear();
        let (rules, table) = (self.rules.clone(), self.host.table.clone());
        let made = move || rules::apply("the host", &rules).and_then(|()| rules::list(&table));
        self.listing = blocking(made).await?;
        Ok(())
    }

    async fn look_at_links(&self) -> Result<()> {
        let host = &self.host;
        // In this order: what is live and not among the links is gone, or was given back meanwhile.
        let live = host.live();
        let links: HashMap<u32, Link> =
            host.links.named(&host.veth_prefix).await?.into_iter().map(|link| (link.index, link)).collect();
        let addresses = host.links.addresses().await?;
        let held: HashSet<(u32, Ipv4Addr)> = addresses.iter().map(|it| (it.index, it.ip)).collect();
        for (pair, index, namespace) in live {
            let (address, guest_end) = host.range.pair(pair);
            let complete = match links.get(&index) {
                None => false,
                Some(link) => {
                    link.is_up
                        && held.contains(&(index, address))
                        && host.links.interface_towards(guest_end).await? == Some(index)
                }
            };
            if !complete && host.holds(pair, index) {
                self.mend_uplink(pair, index, links.contains_key(&index), namespace).await?;
            }
        }
        let own: BTreeSet<Ipv4Addr> = host.own(addresses);
        if host.set_addresses(own) {
            tracing::info!("the host's addresses have changed; guests are kept off the new ones");
            host.tell_addresses().await?;
        }
        Ok(())
    }

    /// Restores the host's end of an uplink, or all of it when it is gone.
    async fn mend_uplink(
        &self,
        pair: u32,
        index: u32,
        is_there: bool,
        namespace: Arc<OwnedFd>,
    ) -> Result<()> {
        let interface = self.host.uplink_name(pair);
        tracing::warn!(
            interface,
            "the uplink of a microVM was set down, changed or removed by another program (an interface manager?); it is \
             restored"
        );
        if is_there {
            return self.host.set_up_host_end(pair, index).await;
        }
        self.host.make_again(pair, index, namespace).await
    }
}

fn look_at_forwarding() -> Result<()> {
    let found = std::fs::read_to_string(FORWARDING)
        .map_err(|source| Error::Sysctl { path: FORWARDING.into(), source })?;
    if found.trim() == "1" {
        return Ok(());
    }
    tracing::warn!("net.ipv4.ip_forward was switched off by another program; it is switched on again");
    namespace::set_sysctl("net/ipv4/ip_forward", "1")
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Thread(std::io::Error::other(error)))?
}
