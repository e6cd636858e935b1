//! Makes a microVM's network namespace, in a thread that enters it and then ends.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use hearth_guest_protocol::message::{
    APP_GATEWAY, APP_GUEST, APP_LOOPBACK, APP_MAC, CONTROL_GUEST, CONTROL_HOST, CONTROL_MAC, HOST_MAC,
    RESOLVER,
};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::guard::{LOG_GROUP, Opened};
use crate::links::Links;
use crate::netfilter::{flow_log, sets};
use crate::network::Taps;
use crate::rules::{HTTP_GATE, TLS_GATE};
use crate::{rules, tap};

/// Ports that the server's connections come from: below those that Linux picks (32768 to 60999), so
/// that a connection to the app's loopback never looks like one that was made inside of the guest.
const SOURCE_PORTS: &str = "1024 32767";

/// The veth between a namespace and the host.
#[derive(Debug, Clone)]
pub(crate) struct Uplink {
    /// Name of the host's end.
    pub(crate) host_name: String,
    /// Address of the host's end; with [`Self::address`] a /31.
    pub(crate) host_address: Ipv4Addr,
    /// Address of the namespace's end.
    pub(crate) address: Ipv4Addr,
}

/// A namespace that is ready, but for the host's end of its uplink.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) descriptor: OwnedFd,
    pub(crate) taps: Taps,
    /// Sockets of the DNS relay; only with an uplink.
    pub(crate) resolver: Option<(UdpSocket, TcpListener)>,
}

/// Opens the network namespace of the calling thread.
pub(crate) fn current() -> Result<OwnedFd> {
    File::open("/proc/thread-self/ns/net").map(Into::into).map_err(Error::Namespace)
}

/// Makes a namespace with this nftables table. Runs on a thread of its own, because a thread that
/// has left the host's namespace must never go back to a pool.
pub(crate) async fn make(
    host_namespace: OwnedFd,
    table: String,
    uplink: Option<Uplink>,
) -> Result<Namespace> {
    on_a_thread("host-net-make", move || make_here(&host_namespace, &table, uplink.as_ref())).await
}

/// Makes the nftables table anew inside a namespace that an earlier server has made, and opens the
/// sockets of the DNS relay there.
pub(crate) async fn settle_inside(
    namespace: Arc<OwnedFd>,
    table: String,
) -> Result<(UdpSocket, TcpListener)> {
    on_a_thread("host-net-adopt", move || {
        enter(&namespace)?;
        close_here(&table)?;
        open_resolver().map_err(Error::Resolver)
    })
    .await
}

/// Opens the sockets by which a namespace is held to a policy.
pub(crate) async fn open_for_policy(namespace: Arc<OwnedFd>) -> Result<Opened> {
    on_a_thread("host-net-policy", move || {
        enter(&namespace)?;
        let listen = |port| -> std::io::Result<TcpListener> {
            let listener = TcpListener::bind(SocketAddrV4::new(APP_GATEWAY.into(), port))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let opened = sets::Socket::open().and_then(|sets| {
            let log = flow_log::open_group(LOG_GROUP)?;
            Ok(Opened { sets, log, tls: listen(TLS_GATE)?, http: listen(HTTP_GATE)? })
        });
        opened.map_err(Error::Policy)
    })
    .await
}

/// Runs `nft` with these rules inside a namespace.
pub(crate) async fn apply_inside(namespace: Arc<OwnedFd>, rules: String) -> Result<()> {
    on_a_thread("host-net-rules", move || {
        enter(&namespace)?;
        rules::apply("a network namespace", &rules)
    })
    .await
}

/// Makes the uplink of a namespace again.
pub(crate) async fn wire_again(
    namespace: Arc<OwnedFd>,
    host_namespace: OwnedFd,
    uplink: Uplink,
) -> Result<()> {
    on_a_thread("host-net-wire", move || {
        enter(&namespace)?;
        let work = async { wire(&Links::open()?, &host_namespace, &uplink).await };
        runtime_here()?.block_on(work)
    })
    .await
}

/// Runs `work` on a thread that ends with it.
async fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (result_tx, result_rx) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // The receiver is gone only if the caller was cancelled; then what was made
            // goes with the result.
            let _ = result_tx.send(work());
        })
        .map_err(Error::Thread)?;
    result_rx.await.map_err(|gone| Error::Thread(std::io::Error::other(gone)))?
}

fn enter(namespace: &OwnedFd) -> Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::Namespace(errno.into()))
}

fn runtime_here() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(Error::NetlinkSocket)
}

fn make_here(host_namespace: &OwnedFd, table: &str, uplink: Option<&Uplink>) -> Result<Namespace> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error::Namespace(errno.into()))?;
    let descriptor = current()?;
    for (path, value) in [
        ("net/ipv6/conf/all/disable_ipv6", "1"),
        ("net/ipv6/conf/default/disable_ipv6", "1"),
        ("net/ipv4/conf/all/arp_ignore", "1"),
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/ip_local_port_range", SOURCE_PORTS),
    ] {
        set_sysctl(path, value)?;
    }
    let taps = Taps { app: open_tap("app0")?, control: open_tap("ctl0")? };
    close_here(table)?;
    runtime_here()?.block_on(configure(host_namespace, uplink))?;
    let resolver = uplink.map(|_| open_resolver().map_err(Error::Resolver)).transpose()?;
    Ok(Namespace { descriptor, taps, resolver })
}

/// Closes the namespace: without its own table no network is given out.
fn close_here(table: &str) -> Result<()> {
    for (path, value) in [
        // Each refused packet gets its answer (icmp(7): no type of message is limited): the only
        // one who can be flooded is the guest that sent them.
        ("net/ipv4/icmp_ratemask", "0"),
        // ARP and packets from other addresses than a NIC's are nobody's: each sender of an ARP
        // request takes an entry in a table of neighbours that all namespaces of the host share
        // (`gc_thresh3` of arp(7)).
        ("net/ipv4/conf/all/rp_filter", "1"),
    ] {
        set_sysctl(path, value)?;
    }
    rules::apply("a network namespace", table)
}

/// Addresses, neighbours, the veth and the route.
async fn configure(host_namespace: &OwnedFd, uplink: Option<&Uplink>) -> Result<()> {
    let links = Links::open()?;
    links.up(links.index("lo").await?, None).await?;
    let app = links.index("app0").await?;
    links.up(app, Some(HOST_MAC)).await?;
    links.add_address(app, APP_GATEWAY.into(), 30).await?;
    links.add_neighbour(app, APP_GUEST.into(), APP_MAC).await?;
    // By way of a gateway, whose neighbour entry counts: the address itself is replaced before
    // neighbours are looked up.
    links.add_route(APP_LOOPBACK.into(), APP_GUEST.into()).await?;
    links.add_address(app, RESOLVER.into(), 32).await?;
    let control = links.index("ctl0").await?;
    links.up(control, Some(HOST_MAC)).await?;
    links.add_address(control, CONTROL_HOST.into(), 30).await?;
    links.add_neighbour(control, CONTROL_GUEST.into(), CONTROL_MAC).await?;
    match uplink {
        Some(uplink) => wire(&links, host_namespace, uplink).await,
        None => Ok(()),
    }
}

/// The veth and the route.
async fn wire(links: &Links, host_namespace: &OwnedFd, uplink: &Uplink) -> Result<()> {
    links.add_veth("up0", &uplink.host_name, host_namespace.as_fd()).await?;
    let up = links.index("up0").await?;
    links.add_address(up, uplink.address, 31).await?;
    links.up(up, None).await?;
    links.add_default_route(uplink.host_address).await
}

fn open_tap(name: &'static str) -> Result<OwnedFd> {
    tap::open(name).map_err(|source| Error::Tap { name, source })
}

fn open_resolver() -> std::io::Result<(UdpSocket, TcpListener)> {
    let address = SocketAddrV4::new(RESOLVER.into(), 53);
    let (udp, tcp) = (UdpSocket::bind(address)?, TcpListener::bind(address)?);
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    Ok((udp, tcp))
}

/// Writes a file below `/proc/sys`, which shows the network namespace of the calling thread. A
/// kernel without IPv6 lacks its files, and needs no switching off.
pub(crate) fn set_sysctl(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    match std::fs::write(&path, value) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && name.starts_with("net/ipv6/") => Ok(()),
        other => other.map_err(|source| Error::Sysctl { path, source }),
    }
}
