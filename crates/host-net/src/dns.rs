//! The DNS relay: sockets inside a microVM's namespace, queries sent from the host's namespace.
//!
//! Queries and answers pass unchanged (RFC 1035; TCP with its two-byte length, RFC 7766); what is
//! more than a query is answered here (`query`). Every query goes out on a fresh socket, connected
//! to the server, so that nothing but that server can answer it. One guest has a limited number of
//! queries and connections, at once and in a time: each query takes a descriptor of the server and
//! an entry in the host's table of connections.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use hearth_rate::Bucket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

mod query;

use self::query::{
    NAME_ERROR, NO_ERROR, NOT_IMPLEMENTED, REFUSED, SERVER_FAILURE, Verdict, answers, judge, name,
    record_type, without_records,
};
use crate::guard::{Guard, Question};

/// Queries over UDP that one microVM can have under way; more wait in the socket's buffer.
const UDP_CONCURRENCY: usize = 64;
/// TCP connections to the relay that one microVM can have open.
const TCP_CONCURRENCY: usize = 8;
/// Longest time for a query, all servers together: just under the five seconds after
/// which glibc asks again.
const QUERY_TIMEOUT: Duration = Duration::from_millis(4500);
/// How long a TCP connection may stay silent.
const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a TCP connection may last.
const TCP_LIFETIME: Duration = Duration::from_mins(2);
/// Queries that one microVM may ask at once, and then in a second. An entry in the host's table of
/// connections stays for half a minute.
const QUERIES: (u64, u64) = (400, 100);
/// Datagrams that are looked at, likewise.
const DATAGRAMS: (u64, u64) = (4000, 2000);
/// Largest message over UDP that is passed on.
const UDP_MESSAGE_MAX: usize = 8192;
/// As many nameservers as glibc uses (resolv.conf(5), `MAXNS`).
const SERVERS_MAX: usize = 3;

/// The servers that queries are sent to.
#[derive(Debug)]
pub(crate) struct Upstreams {
    fixed: Option<Vec<SocketAddr>>,
    read: Mutex<Option<(SystemTime, Vec<SocketAddr>)>>,
}

impl Upstreams {
    /// `None`: those of `/etc/resolv.conf`.
    pub(crate) fn new(fixed: Option<Vec<SocketAddr>>) -> Self {
        Self { fixed, read: Mutex::new(None) }
    }

    fn servers(&self) -> Vec<SocketAddr> {
        if let Some(fixed) = &self.fixed {
            return fixed.clone();
        }
        let path = Path::new("/etc/resolv.conf");
        let modified =
            path.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some((at, servers)) if *at == modified => servers.clone(),
            _ => {
                let servers = nameservers(&std::fs::read_to_string(path).unwrap_or_default());
                *read = Some((modified, servers.clone()));
                servers
            }
        }
    }
}

/// The nameservers of a resolv.conf(5); without any, the one on this host, as glibc has it.
fn nameservers(text: &str) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next()?.parse().ok())
        .map(|address| SocketAddr::new(address, 53))
        .take(SERVERS_MAX)
        .collect();
    if found.is_empty() {
        found.push((Ipv4Addr::LOCALHOST, 53).into());
    }
    found
}

/// A running relay; ends when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    tasks: [JoinHandle<()>; 2],
    guard: Guarded,
}

/// What judges names, once there is a policy.
type Guarded = Arc<OnceLock<Arc<Guard>>>;

impl Relay {
    /// Serves the sockets, which were opened inside the namespace and are non-blocking.
    pub(crate) fn start(
        udp: std::net::UdpSocket,
        tcp: std::net::TcpListener,
        upstreams: Arc<Upstreams>,
    ) -> io::Result<Self> {
        let (udp, tcp) = (UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?);
        let guard = Guarded::default();
        let asking = Asking { upstreams, guard: Arc::clone(&guard), allowed: Allowed::default() };
        let tasks = [tokio::spawn(serve_udp(udp, asking.clone())), tokio::spawn(serve_tcp(tcp, asking))];
        Ok(Self { tasks, guard })
    }

    /// Answers for the names that a policy allows only, from now on.
    pub(crate) fn hold_to(&self, guard: Arc<Guard>) {
        // A network has one guard for its life, whose policy may change.
        let _ = self.guard.set(guard);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn bucket((burst, per_second): (u64, u64)) -> Bucket {
    Bucket::with_burst(per_second, burst)
}

/// The queries of one microVM, over UDP and TCP. They have their turns in the order in which they
/// came.
#[derive(Debug, Clone)]
struct Allowed(Arc<tokio::sync::Mutex<Bucket>>);

impl Default for Allowed {
    fn default() -> Self {
        Self(Arc::new(tokio::sync::Mutex::new(bucket(QUERIES))))
    }
}

impl Allowed {
    /// Waits until another query may be asked.
    async fn take(&self) {
        self.0.lock().await.wait().await;
    }
}

/// How the queries of one microVM are answered.
#[derive(Debug, Clone)]
struct Asking {
    upstreams: Arc<Upstreams>,
    guard: Guarded,
    allowed: Allowed,
}

impl Asking {
    /// What becomes of a message: judged by its form, and by the policy.
    fn judge(&self, message: &[u8]) -> Verdict {
        let verdict = judge(message);
        let (Verdict::Ask, Some(guard)) = (&verdict, self.guard.get()) else { return verdict };
        match guard.question(name(message).as_deref(), record_type(message)) {
            Question::Ask => Verdict::Ask,
            Question::NoName => Verdict::Answer(NAME_ERROR),
            Question::NoRecords => Verdict::Answer(NO_ERROR),
        }
    }

    /// The answer of the servers, if the policy lets the guest have it.
    async fn resolve(&self, query: &[u8], transport: Transport) -> Vec<u8> {
        let answer = resolve(query, &self.upstreams, transport).await;
        match (self.guard.get(), name(query)) {
            (Some(guard), Some(name)) if guard.answered(&name, &answer) => answer,
            (Some(_), _) => without_records(query, NAME_ERROR),
            (None, _) => answer,
        }
    }
}

async fn serve_udp(socket: UdpSocket, asking: Asking) {
    let socket = Arc::new(socket);
    let permits = Arc::new(Semaphore::new(UDP_CONCURRENCY));
    let mut queries = JoinSet::new();
    let mut buffer = vec![0; UDP_MESSAGE_MAX];
    let looked_at = bucket(DATAGRAMS);
    loop {
        while queries.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        looked_at.wait().await;
        // An error here belongs to an answer that could not be delivered; the socket goes on.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        match asking.judge(&buffer[..length]) {
            Verdict::Ask => asking.allowed.take().await,
            Verdict::Answer(code) => {
                // Nobody waits for a guest that does not take its refusals.
                let _ = socket.try_send_to(&without_records(&buffer[..length], code), client);
                continue;
            }
            Verdict::Ignore => continue,
        }
        let query = buffer[..length].to_vec();
        let (socket, asking) = (Arc::clone(&socket), asking.clone());
        queries.spawn(async move {
            let _permit = permit;
            let answer = asking.resolve(&query, Transport::Udp).await;
            if let Err(error) = socket.send_to(&answer, client).await {
                tracing::debug!(%error, "a DNS answer could not be delivered");
            }
        });
    }
}

async fn serve_tcp(listener: TcpListener, asking: Asking) {
    let permits = Arc::new(Semaphore::new(TCP_CONCURRENCY));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: do not spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let asking = asking.clone();
        connections.spawn(async move {
            let _permit = permit;
            match timeout(TCP_LIFETIME, serve_connection(stream, &asking)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a DNS connection broke"),
                Err(_) => tracing::debug!("a DNS connection was open for too long"),
            }
        });
    }
}

async fn serve_connection(mut stream: TcpStream, asking: &Asking) -> io::Result<()> {
    loop {
        let Ok(query) = timeout(TCP_IDLE_TIMEOUT, read_message(&mut stream)).await else { return Ok(()) };
        let Some(query) = query? else { return Ok(()) };
        asking.allowed.take().await;
        let answer = match asking.judge(&query) {
            Verdict::Ask => asking.resolve(&query, Transport::Tcp).await,
            Verdict::Answer(code) => without_records(&query, code),
            Verdict::Ignore => return Ok(()),
        };
        timeout(TCP_IDLE_TIMEOUT, write_message(&mut stream, &answer)).await??;
    }
}

#[derive(Debug, Clone, Copy)]
enum Transport {
    Udp,
    Tcp,
}

/// Asks the servers in turn; when none of them gave a useful answer, says "server
/// failure" (RFC 1035, 4.1.1).
async fn resolve(query: &[u8], upstreams: &Upstreams, transport: Transport) -> Vec<u8> {
    let servers = upstreams.servers();
    let share = QUERY_TIMEOUT / u32::try_from(servers.len().max(1)).unwrap_or(1);
    let mut failure = None;
    for server in servers {
        let exchange = async {
            match transport {
                Transport::Udp => exchange_udp(query, server).await,
                Transport::Tcp => exchange_tcp(query, server).await,
            }
        };
        match timeout(share, exchange).await {
            // Another server may know better.
            Ok(Ok(answer)) if matches!(answer[3] & 0x0f, SERVER_FAILURE | NOT_IMPLEMENTED | REFUSED) => {
                failure = Some(answer);
            }
            Ok(Ok(answer)) => return answer,
            Ok(Err(error)) => tracing::debug!(%server, %error, "a nameserver could not be asked"),
            Err(_) => tracing::debug!(%server, "a nameserver did not answer in time"),
        }
    }
    failure.unwrap_or_else(|| without_records(query, SERVER_FAILURE))
}

async fn exchange_udp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; UDP_MESSAGE_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(&buffer[..length], query) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn exchange_tcp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, query).await?;
    match read_message(&mut stream).await? {
        Some(answer) if answers(&answer, query) => Ok(answer),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_as_glibc_does() {
        let text = "# comment\nsearch example.com\nnameserver 10.1.2.3\n nameserver\t::1 # local\nnameserver x\n\
                    nameserver 192.0.2.1\nnameserver 192.0.2.2\n";
        let expected = ["10.1.2.3:53", "[::1]:53", "192.0.2.1:53"].map(|text| text.parse().unwrap());
        assert_eq!(nameservers(text), expected);
        assert_eq!(nameservers("options ndots:1"), ["127.0.0.1:53".parse().unwrap()]);
    }
}
