//! The sockets: UDP, and TCP on the same port (RFC 7766).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

use crate::limit::{Limiter, Verdict};
use crate::tcp::{self, PAUSE, QUERY_MAX};
use crate::zone::{Transport, Zone};

/// Why the name server cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for DNS queries on {address}")]
pub struct StartError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// A running name server; ends when dropped.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl NameServer {
    /// Answers for `zone` on `address`, over UDP and TCP; port 0 picks a free one.
    pub async fn start(address: SocketAddr, zone: Arc<Zone>) -> Result<Self, StartError> {
        let error = |source| StartError { address, source };
        let listener = TcpListener::bind(address).await.map_err(error)?;
        let address = listener.local_addr().map_err(error)?;
        let udp = UdpSocket::bind(address).await.map_err(error)?;
        let tasks =
            [tokio::spawn(serve_udp(udp, Arc::clone(&zone))), tokio::spawn(tcp::serve(listener, zone))];
        Ok(Self { address, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn serve_udp(socket: UdpSocket, zone: Arc<Zone>) {
    let mut limiter = Limiter::new(Instant::now());
    let mut buffer = vec![0; QUERY_MAX];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "a DNS query could not be received");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let query = &buffer[..length];
        let answer = match limiter.judge(client.ip(), Instant::now()) {
            // One that asks from where queries go would have itself answered, and so on.
            _ if client.port() == 0 => None,
            Verdict::Answer => zone.answer(query, Transport::Udp),
            Verdict::UseTcp => Zone::use_tcp(query),
            Verdict::Drop => None,
        };
        // What the kernel does not take at once is lost, as on the way; nobody waits
        // for one slow client.
        if let Some(answer) = answer
            && let Err(error) = socket.try_send_to(&answer, client)
        {
            tracing::debug!(%error, "a DNS answer could not be sent");
        }
    }
}
