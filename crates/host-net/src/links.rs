//! Interfaces, addresses, neighbours and routes through rtnetlink.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use futures::TryStreamExt;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkFlags};
use netlink_packet_route::route::{RouteAttribute, RouteScope};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::sync::Mutex;

use crate::error::{Error, Result};

/// A netlink connection into one namespace: that of the thread that opened it.
///
/// The mutex is held during a dump: the kernel refuses a second one on the same socket
/// (EBUSY) while one runs.
#[derive(Debug, Clone)]
pub(crate) struct Links(Handle, Arc<Mutex<()>>);

/// A network interface.
#[derive(Debug)]
pub(crate) struct Link {
    /// Its number.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// Whether it is set up.
    pub(crate) is_up: bool,
}

/// Names the failed step.
fn failed(step: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |source| Error::Netlink { step: step.into(), source }
}

/// What the names of the host's ends of uplinks begin with, of all servers on it.
pub(crate) const UPLINKS: &str = "hv";

/// Whether an interface has the name of an uplink: ten hexadecimal digits for the server and the
/// pair.
fn is_uplink(name: &str) -> bool {
    let digits = name.strip_prefix(UPLINKS).unwrap_or_default();
    digits.len() == 10 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// An address of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    /// Its interface.
    pub(crate) index: u32,
    pub(crate) ip: Ipv4Addr,
    /// Whether the interface is an uplink, of this server or another one.
    pub(crate) of_uplink: bool,
}

impl Links {
    /// Opens a connection and serves it on the current tokio runtime until the last
    /// copy is dropped.
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

    /// Every interface whose name begins with this.
    pub(crate) async fn named(&self, prefix: &str) -> Result<Vec<Link>> {
        let mut found = Vec::new();
        let _only_dump = self.1.lock().await;
        let mut messages = self.0.link().get().execute();
        while let Some(link) = messages.try_next().await.map_err(failed("list the host's interfaces"))? {
            let (index, is_up) = (link.header.index, link.header.flags.contains(LinkFlags::Up));
            found.extend(link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) if name.starts_with(prefix) => Some(Link { index, name, is_up }),
                _ => None,
            }));
        }
        Ok(found)
    }

    /// Gives an interface an address, unless it has it.
    pub(crate) async fn add_address(&self, index: u32, address: Ipv4Addr, prefix_length: u8) -> Result<()> {
        let request = self.0.address().add(index, IpAddr::V4(address), prefix_length);
        match request.execute().await {
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -nix::libc::EEXIST => {
                Ok(())
            }
            other => other.map_err(failed(format!("add the address {address}"))),
        }
    }

    /// Pins a neighbour's MAC address, which spares the ARP exchange and makes it
    /// impossible to poison.
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

    /// Routes a range to what is on an interface, instead of any other route to it.
    pub(crate) async fn replace_route(
        &self,
        range: Ipv4Addr,
        prefix_length: u8,
        index: u32,
        source: Ipv4Addr,
    ) -> Result<()> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(range, prefix_length)
            .output_interface(index)
            .pref_source(source)
            .scope(RouteScope::Link)
            .build();
        let request = self.0.route().add(route).replace();
        request.execute().await.map_err(failed(format!("add the route to {range}/{prefix_length}")))
    }

    /// Index of the interface by which an address is reached, if there is a route.
    pub(crate) async fn interface_towards(&self, address: Ipv4Addr) -> Result<Option<u32>> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).build();
        let mut found = self.0.route().get(route).execute();
        match found.try_next().await {
            Ok(route) => Ok(route.and_then(|route| {
                route.attributes.into_iter().find_map(|attribute| match attribute {
                    RouteAttribute::Oif(index) => Some(index),
                    _ => None,
                })
            })),
            // Unreachable, by no or by a forbidding route.
            Err(rtnetlink::Error::NetlinkError(_)) => Ok(None),
            Err(error) => Err(failed(format!("look up the route to {address}"))(error)),
        }
    }

    /// Every IPv4 address of this namespace, with the index of its interface.
    pub(crate) async fn addresses(&self) -> Result<Vec<Address>> {
        let _only_dump = self.1.lock().await;
        let mut messages = self.0.address().get().execute();
        let mut found = Vec::new();
        while let Some(message) = messages.try_next().await.map_err(failed("list the host's addresses"))? {
            let label = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Label(label) => Some(label.as_str()),
                _ => None,
            });
            let of_uplink = label.is_some_and(is_uplink);
            let index = message.header.index;
            found.extend(message.attributes.iter().filter_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => {
                    Some(Address { index, ip: *address, of_uplink })
                }
                _ => None,
            }));
        }
        Ok(found)
    }
}
