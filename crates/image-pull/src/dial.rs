//! Opens connections: from the namespace to what is open to guests, and by way of the server to
//! what the operator has named.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::address::Reach;
use crate::messages::{self, FromChild, FromParent, OperatorAddress};
use crate::resolve;

/// Longest time for one address to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens connections. Why one could not be opened is nobody's business: whoever knows
/// could scan ports with it.
pub(crate) trait Dial: Send {
    /// From the namespace.
    fn inside(&mut self, host: &str, port: u16) -> impl Future<Output = Option<TcpStream>> + Send;

    /// By the server.
    fn by_operator(&mut self, address: OperatorAddress) -> impl Future<Output = Option<TcpStream>> + Send;
}

/// How the process that fetches does it.
#[derive(Debug)]
pub(crate) struct Dialer {
    /// Private ranges that the operator has opened.
    pub(crate) reach: Reach,
    /// The namespace's DNS relay.
    pub(crate) relay: SocketAddr,
    /// Leads to the server.
    pub(crate) server: OwnedFd,
}

impl Dial for Dialer {
    async fn inside(&mut self, host: &str, port: u16) -> Option<TcpStream> {
        let addresses = match host.parse::<Ipv4Addr>() {
            Ok(address) => vec![address],
            Err(_) => resolve::addresses(self.relay, host).await,
        };
        for address in addresses.into_iter().filter(|address| self.reach.allows(*address)) {
            if let Ok(Ok(stream)) = timeout(CONNECT_TIMEOUT, TcpStream::connect((address, port))).await {
                return Some(stream);
            }
        }
        None
    }

    async fn by_operator(&mut self, address: OperatorAddress) -> Option<TcpStream> {
        // The server answers at once or ends this process; there is nothing else to do meanwhile.
        messages::send(self.server.as_fd(), &FromChild::Dial(address), None).ok()?;
        let (FromParent::Connection, descriptor) = messages::receive(self.server.as_fd()).ok()? else {
            return None;
        };
        let stream = std::net::TcpStream::from(descriptor?);
        stream.set_nonblocking(true).ok()?;
        TcpStream::from_std(stream).ok()
    }
}
