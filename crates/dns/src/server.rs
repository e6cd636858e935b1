//! The sockets: UDP, and TCP on the same port (RFC 7766).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::limit::{Limiter, Verdict};
use crate::zone::{Transport, Zone};

/// TCP connections at a time; more wait in the listener's queue.
const TCP_CONNECTIONS_MAX: usize = 64;
/// Queries on one TCP connection.
const TCP_QUERIES_MAX: usize = 100;
/// How long a TCP connection may stay silent, or an answer untaken.
const TCP_PATIENCE: Duration = Duration::from_secs(5);
/// Longest query; a question has 271 bytes at most, and there may be options.
const QUERY_MAX: usize = 4096;
/// Pause after a failed accept or receive, which mostly means that descriptors or memory ran out.
const PAUSE: Duration = Duration::from_millis(100);

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
        let tcp = TcpListener::bind(address).await.map_err(error)?;
        let address = tcp.local_addr().map_err(error)?;
        let udp = UdpSocket::bind(address).await.map_err(error)?;
        let tasks = [tokio::spawn(serve_udp(udp, Arc::clone(&zone))), tokio::spawn(serve_tcp(tcp, zone))];
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
        // What the kernel does not take at once is lost, as on the way; nobody waits for one slow client.
        if let Some(answer) = answer
            && let Err(error) = socket.try_send_to(&answer, client)
        {
            tracing::debug!(%error, "a DNS answer could not be sent");
        }
    }
}

async fn serve_tcp(listener: TcpListener, zone: Arc<Zone>) {
    let places = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let zone = Arc::clone(&zone);
        connections.spawn(async move {
            let _place = place;
            if let Err(error) = serve_connection(stream, &zone).await {
                tracing::debug!(%error, "a DNS connection broke");
            }
        });
    }
}

/// Answers queries one after the other until the client has nothing more to ask, or asks nonsense.
async fn serve_connection(mut stream: TcpStream, zone: &Zone) -> io::Result<()> {
    for _ in 0..TCP_QUERIES_MAX {
        let query = timeout(TCP_PATIENCE, read(&mut stream)).await??;
        let Some(answer) = query.and_then(|query| zone.answer(&query, Transport::Tcp)) else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        timeout(TCP_PATIENCE, stream.write_all(&framed)).await??;
    }
    Ok(())
}

/// One query with its length before it; `None` at the end and for what is too long to be one.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => usize::from(other?),
    };
    if length > QUERY_MAX {
        return Ok(None);
    }
    let mut query = vec![0; length];
    stream.read_exact(&mut query).await?;
    Ok(Some(query))
}
