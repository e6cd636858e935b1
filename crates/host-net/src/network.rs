//! One microVM's network.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hearth_egress_policy::Policy;
use hearth_guest_protocol::message::{AGENT_PORT, APP_LOOPBACK, CONTROL_GUEST};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::dns::Relay;
use crate::error::{Error, Result};
use crate::guard::{Decisions, Guard, Outside};
use crate::namespace;
use crate::sockets::SocketOpener;
use crate::uplinks::Host;

/// Longest time that [`Connector::connect`] takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the first attempt to connect may take; each further one gets twice the time. TCP
/// repeats an unanswered SYN only after a second, too long for a guest that was just not listening
/// yet when the first one came.
const FIRST_ATTEMPT: Duration = Duration::from_millis(150);

/// What a microVM may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Egress {
    /// The internet and the DNS relay, and the ranges of [`crate::HostNetConfig::allow_egress_to`].
    Internet,
    /// Of that, what a policy allows.
    Policy(Held),
    /// Nothing; there is no uplink and no DNS.
    None,
}

/// A policy that a network is held to, and where it is told what was decided.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// The policy.
    pub policy: Arc<Policy>,
    /// Its decisions, those before a suspend too.
    pub decisions: Arc<Decisions>,
}

/// Two are the same that allow the same.
impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.policy == other.policy
    }
}

impl Eq for Held {}

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
    guard: Option<HeldGuard>,
    uplink: Option<HeldUplink>,
    host: Arc<Host>,
}

/// A guard, and its tasks, which end with it.
#[derive(Debug)]
struct HeldGuard(Arc<Guard>, [JoinHandle<()>; 3]);

impl Drop for HeldGuard {
    fn drop(&mut self) {
        self.1.iter().for_each(JoinHandle::abort);
    }
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
        Self { namespace, taps: Mutex::new(taps), connector, relay, guard: None, uplink, host }
    }

    /// Holds it to a policy before there is a guest, or one that runs.
    pub(crate) async fn hold_to(&mut self, held: Held) -> Result<()> {
        let opened = namespace::open_for_policy(Arc::clone(&self.namespace)).await?;
        let namespace = Arc::downgrade(&self.namespace);
        let outside = Outside { namespace, opener: self.host.opener.clone() };
        let host = Arc::clone(&self.host);
        let (guard, tasks) = Guard::start(held, opened, outside, move |address| host.is_closed(address))
            .map_err(Error::Policy)?;
        if let Some(relay) = &self.relay {
            relay.hold_to(Arc::clone(&guard));
        }
        self.guard = Some(HeldGuard(guard, tasks));
        Ok(())
    }

    /// What holds it to a policy, if it has one.
    pub fn guard(&self) -> Option<Arc<Guard>> {
        self.guard.as_ref().map(|held| Arc::clone(&held.0))
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
