//! One microVM's network.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hearth_guest_protocol::message::{AGENT_PORT, APP_LOOPBACK, CONTROL_GUEST};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use crate::dns::Relay;
use crate::sockets::SocketOpener;
use crate::uplinks::Host;

/// Longest time that [`Connector::connect`] takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the first attempt to connect may take; each further one gets twice the time. TCP
/// repeats an unanswered SYN only after a second, too long for a guest that was just not listening
/// yet when the first one came.
const FIRST_ATTEMPT: Duration = Duration::from_millis(150);

/// What a microVM may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// The internet and the DNS relay, and the ranges of [`crate::HostNetConfig::allow_egress_to`].
    Internet,
    /// Nothing; there is no uplink and no DNS.
    None,
}

/// The TAP devices of a network; each is gone when the last copy of its descriptor is closed.
#[derive(Debug)]
pub struct Taps {
    /// Of the app's NIC.
    pub app: OwnedFd,
    /// Of the control NIC.
    pub control: OwnedFd,
}

/// A microVM's network. Dropping it releases it in the background; [`Network::release`] waits.
#[derive(Debug)]
pub struct Network {
    namespace: Arc<OwnedFd>,
    taps: Mutex<Option<Taps>>,
    connector: Connector,
    relay: Option<Relay>,
    uplink: Option<HeldUplink>,
    host: Arc<Host>,
}

/// An uplink that has to be given back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldUplink {
    /// Number of the address pair.
    pub(crate) pair: u32,
}

impl Network {
    pub(crate) fn new(
        namespace: Arc<OwnedFd>,
        taps: Option<Taps>,
        relay: Option<Relay>,
        uplink: Option<HeldUplink>,
        host: Arc<Host>,
    ) -> Self {
        let connector = Connector { namespace: Arc::downgrade(&namespace), opener: host.opener.clone() };
        Self { namespace, taps: Mutex::new(taps), connector, relay, uplink, host }
    }

    /// The network namespace, for the VMM process.
    pub fn namespace(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.namespace)
    }

    /// Name of the host's end of the uplink, by which a later server can take the network over.
    pub fn uplink(&self) -> Option<String> {
        self.uplink.map(|uplink| self.host.uplink_name(uplink.pair))
    }

    /// Serves DNS in it.
    pub(crate) fn serve(&mut self, relay: Relay) {
        self.relay = Some(relay);
    }

    /// The TAP devices; `None` when they have been taken before, or by an earlier server.
    pub fn take_taps(&self) -> Option<Taps> {
        self.taps.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Connects from inside the namespace; see [`Connector::connect`].
    pub async fn connect(&self, address: SocketAddrV4) -> io::Result<TcpStream> {
        self.connector.connect(address).await
    }

    /// A handle that connects into this network but does not keep it alive.
    pub fn connector(&self) -> Connector {
        self.connector.clone()
    }

    /// Leaves the network to the process inside it and to a later server, which may
    /// [`crate::HostNet::adopt`] it. Until then the guest has no DNS.
    pub fn leave(mut self) {
        self.relay = None;
        self.host.leave(self.uplink.take());
    }

    /// Takes the network down and waits until its veth is gone. The namespace goes with the last
    /// process in it and the last copy of [`Self::namespace`].
    pub async fn release(mut self) {
        self.relay = None;
        if let Some(uplink) = self.uplink.take() {
            self.host.give_back(uplink).await;
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(uplink) = self.uplink.take() {
            let host = Arc::clone(&self.host);
            self.host.runtime.spawn(async move { host.give_back(uplink).await });
        }
    }
}

/// Connects into a microVM's network.
#[derive(Debug, Clone)]
pub struct Connector {
    namespace: Weak<OwnedFd>,
    opener: SocketOpener,
}

impl Connector {
    /// Connects to the agent on the control network.
    pub async fn connect_agent(&self) -> io::Result<TcpStream> {
        self.connect(SocketAddrV4::new(Ipv4Addr::from(CONTROL_GUEST), AGENT_PORT)).await
    }

    /// Connects to a port of the app's loopback past the agent, within `limit`. Other errors are
    /// those of [`Self::connect`].
    pub async fn connect_app(&self, port: u16, limit: Duration) -> io::Result<TcpStream> {
        self.connect_within(SocketAddrV4::new(Ipv4Addr::from(APP_LOOPBACK), port), limit).await
    }

    /// Connects, with `TCP_NODELAY` set.
    ///
    /// # Errors
    /// Connection refused at once when the guest's kernel runs and nothing listens; timed out after
    /// three seconds; not connected when the network has been released.
    pub async fn connect(&self, address: SocketAddrV4) -> io::Result<TcpStream> {
        self.connect_within(address, CONNECT_TIMEOUT).await
    }

    async fn connect_within(&self, address: SocketAddrV4, limit: Duration) -> io::Result<TcpStream> {
        let deadline = Instant::now() + limit;
        let mut attempt = FIRST_ATTEMPT;
        loop {
            let namespace = self.namespace.upgrade().ok_or(io::ErrorKind::NotConnected)?;
            let socket = TcpSocket::from_std_stream(self.opener.tcp_socket(namespace).await?);
            socket.set_nodelay(true)?;
            let until = deadline.min(Instant::now() + attempt);
            match timeout_at(until, socket.connect(address.into())).await {
                Ok(connected) => return connected,
                Err(_) if until >= deadline => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => attempt *= 2,
            }
        }
    }
}
