//! Interfaces, addresses, neighbours and routes through rtnetlink.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use futures::TryStreamExt;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::sync::Mutex;

use crate::error::{Error, Result};

/// A netlink connection into one namespace: that of the thread that opened it.
///
/// The mutex is held during a dump: the kernel refuses a second one on the same socket (EBUSY) while one runs.
#[derive(Debug, Clone)]
pub(crate) struct Links(Handle, Arc<Mutex<()>>);

/// Names the failed step.
fn failed(step: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |source| Error::Netlink { step: step.into(), source }
}

impl Links {
    /// Opens a connection and serves it on the current tokio runtime until the last copy is dropped.
    pub(crate) fn open() -> Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::NetlinkSocket)?;
        tokio::spawn(connection);
        Ok(Self(handle, Arc::default()))
    }

    /// Index of an interface.
    pub(crate) async fn index(&self, name: &str) -> Result<u32> {
        let mut found = self.0.link().get().match_name(name).execute();
        match found.try_next().await {
            Ok(Some(link)) => Ok(link.header.index),
            Ok(None) => Err(Error::NoInterface(name.to_owned())),
            Err(error) => Err(failed(format!("look up {name}"))(error)),
        }
    }

    /// Sets an interface up, after giving it a MAC address if there is one.
    pub(crate) async fn up(&self, index: u32, mac: Option<[u8; 6]>) -> Result<()> {
        let mut message = LinkUnspec::new_with_index(index);
        if let Some(mac) = mac {
            message = message.address(mac.to_vec());
        }
        self.0.link().set(message.up().build()).execute().await.map_err(failed("set an interface up"))
    }

    /// Makes a veth pair: `name` here, `peer` in another namespace.
    pub(crate) async fn add_veth(
        &self,
        name: &str,
        peer: &str,
        peer_namespace: BorrowedFd<'_>,
    ) -> Result<()> {
        let peer_end = LinkUnspec::new_with_name(peer).setns_by_fd(peer_namespace.as_raw_fd()).build();
        let message = LinkMessageBuilder::<LinkVeth>::new(name, peer)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer_end)))
            .build();
        self.0.link().add(message).execute().await.map_err(failed(format!("make the veth {peer}")))
    }

    /// Deletes an interface; that it is already gone is no error.
    pub(crate) async fn delete(&self, index: u32) -> Result<()> {
        match self.0.link().del(index).execute().await {
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -nix::libc::ENODEV => {
                Ok(())
            }
            other => other.map_err(failed("delete an interface")),
        }
    }

    /// Index and name of every interface whose name begins with this.
    pub(crate) async fn named(&self, prefix: &str) -> Result<Vec<(u32, String)>> {
        let mut found = Vec::new();
        let _only_dump = self.1.lock().await;
        let mut messages = self.0.link().get().execute();
        while let Some(link) = messages.try_next().await.map_err(failed("list the host's interfaces"))? {
            found.extend(link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) if name.starts_with(prefix) => Some((link.header.index, name)),
                _ => None,
            }));
        }
        Ok(found)
    }

    /// Gives an interface an address.
    pub(crate) async fn add_address(&self, index: u32, address: Ipv4Addr, prefix_length: u8) -> Result<()> {
        let request = self.0.address().add(index, IpAddr::V4(address), prefix_length);
        request.execute().await.map_err(failed(format!("add the address {address}")))
    }

    /// Pins a neighbour's MAC address, which spares the ARP exchange and makes it impossible to poison.
    pub(crate) async fn add_neighbour(&self, index: u32, address: Ipv4Addr, mac: [u8; 6]) -> Result<()> {
        let request = self.0.neighbours().add(index, IpAddr::V4(address)).link_layer_address(&mac);
        request.execute().await.map_err(failed(format!("add the neighbour {address}")))
    }

    /// Adds the default route.
    pub(crate) async fn add_default_route(&self, gateway: Ipv4Addr) -> Result<()> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
        self.0
            .route()
            .add(route)
            .execute()
            .await
            .map_err(failed(format!("add the default route to {gateway}")))
    }

    /// Adds a route to one address.
    pub(crate) async fn add_route(&self, address: Ipv4Addr, gateway: Ipv4Addr) -> Result<()> {
        let route =
            RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).gateway(gateway).build();
        self.0.route().add(route).execute().await.map_err(failed(format!("add the route to {address}")))
    }

    /// Every IPv4 address of this namespace.
    pub(crate) async fn addresses(&self) -> Result<HashSet<Ipv4Addr>> {
        let _only_dump = self.1.lock().await;
        let mut messages = self.0.address().get().execute();
        let mut found = HashSet::new();
        while let Some(message) = messages.try_next().await.map_err(failed("list the host's addresses"))? {
            for attribute in message.attributes {
                if let AddressAttribute::Local(IpAddr::V4(address)) = attribute {
                    found.insert(address);
                }
            }
        }
        Ok(found)
    }
}
