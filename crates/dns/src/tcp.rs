//! Queries over TCP. A connection is kept only as long as there is room for those of others.
//!
//! A source has a few connections at a time. When all places are taken, the source with the most
//! connections loses its oldest: clients ask and go within milliseconds, and open another when they
//! are cut (RFC 7766, section 6.2.4).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::zone::{Transport, Zone};

/// Longest query; a question has 271 bytes at most, and there may be options.
pub(crate) const QUERY_MAX: usize = 4096;
/// Pause after a failed accept or receive, which mostly means that descriptors or memory ran out.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
/// Connections at a time; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 64;
/// Connections of one source at a time; more are closed at once.
const OF_SOURCE_MAX: usize = 8;
/// Age at which a connection may be cut for another's sake.
const GRACE: Duration = Duration::from_secs(1);
/// Queries on one connection.
const QUERIES_MAX: usize = 100;
/// How long a connection may stay silent, or an answer untaken.
const PATIENCE: Duration = Duration::from_secs(5);

/// The connections that are being served.
#[derive(Debug, Default)]
struct Connections {
    tasks: JoinSet<()>,
    open: HashMap<Id, Open>,
}

#[derive(Debug)]
struct Open {
    source: IpAddr,
    since: Instant,
    task: AbortHandle,
}

impl Connections {
    fn begin(&mut self, source: IpAddr, serve: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(serve);
        self.open.insert(task.id(), Open { source, since: Instant::now(), task });
    }

    fn forget_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
            self.open.remove(&id);
        }
    }

    fn of(&self, source: IpAddr) -> usize {
        self.open.values().filter(|open| open.source == source).count()
    }

    fn is_full(&self) -> bool {
        self.open.len() >= CONNECTIONS_MAX
    }

    /// Cuts the oldest connection of the source that has the most, if one is past its grace.
    fn make_room(&mut self) {
        let old = self.open.iter().filter(|(_, open)| open.since.elapsed() >= GRACE);
        let most = old.max_by_key(|(_, open)| (self.of(open.source), Reverse(open.since)));
        if let Some(id) = most.map(|(id, _)| *id)
            && let Some(cut) = self.open.remove(&id)
        {
            cut.task.abort();
        }
    }
}

pub(crate) async fn serve(listener: TcpListener, zone: Arc<Zone>) {
    let mut connections = Connections::default();
    loop {
        let Ok((stream, client)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let source = source_of(client.ip());
        connections.forget_ended();
        if connections.of(source) >= OF_SOURCE_MAX {
            continue;
        }
        while connections.is_full() {
            connections.make_room();
            if connections.is_full() {
                sleep(PAUSE).await;
                connections.forget_ended();
            }
        }
        let zone = Arc::clone(&zone);
        connections.begin(source, async move {
            if let Err(error) = serve_connection(stream, &zone).await {
                tracing::debug!(%error, "a DNS connection broke");
            }
        });
    }
}

/// An IPv6 client usually has all of its /64 (RFC 6177).
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// Answers queries one after the other until the client has nothing more to ask, or asks nonsense.
async fn serve_connection(mut stream: TcpStream, zone: &Zone) -> io::Result<()> {
    for _ in 0..QUERIES_MAX {
        let query = timeout(PATIENCE, read(&mut stream)).await??;
        let Some(answer) = query.and_then(|query| zone.answer(&query, Transport::Tcp)) else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        timeout(PATIENCE, stream.write_all(&framed)).await??;
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

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    use hickory_proto::rr::{Name, RecordType};
    use tokio::net::TcpSocket;

    use super::*;

    async fn server() -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
        let zone = Zone::new("example.test", vec![[192, 0, 2, 1].into()], 1).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (address, tokio::spawn(serve(listener, Arc::new(zone))))
    }

    async fn connect(to: std::net::SocketAddr, source: [u8; 4]) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((IpAddr::from(source), 0).into()).unwrap();
        socket.connect(to).await.unwrap()
    }

    /// Whether a query is answered; otherwise the connection is closed.
    async fn is_answered(stream: &mut TcpStream) -> bool {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii("a.example.test.").unwrap(), RecordType::A));
        let query = query.to_vec().unwrap();
        let framed = [&(query.len() as u16).to_be_bytes()[..], &query].concat();
        stream.write_all(&framed).await.is_ok() && stream.read_u16().await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_has_a_few_connections() {
        let (address, _server) = server().await;
        let mut held = Vec::new();
        for _ in 0..OF_SOURCE_MAX {
            held.push(connect(address, [127, 0, 1, 1]).await);
        }
        assert!(!is_answered(&mut connect(address, [127, 0, 1, 1]).await).await);
        assert!(is_answered(&mut connect(address, [127, 0, 1, 2]).await).await);
        assert!(is_answered(&mut held[0]).await);
        held.clear();
        while !is_answered(&mut connect(address, [127, 0, 1, 1]).await).await {
            sleep(PAUSE).await;
        }
    }

    /// The kind: nobody has the last place.
    #[tokio::test(start_paused = true)]
    async fn whoever_has_most_gives_way_when_all_places_are_taken() {
        let (address, _server) = server().await;
        let mut alone = connect(address, [127, 0, 2, 1]).await;
        let mut held = Vec::new();
        for number in 0..CONNECTIONS_MAX - 1 {
            let source = [127, 0, 1, (1 + number / OF_SOURCE_MAX) as u8];
            let mut stream = connect(address, source).await;
            // One byte of a query, which then does not go on.
            stream.write_all(&[0]).await.unwrap();
            held.push(stream);
        }
        assert!(is_answered(&mut connect(address, [127, 0, 2, 2]).await).await);
        assert!(is_answered(&mut alone).await, "the only one of its source stays");
        let mut closed = 0;
        for stream in &mut held {
            closed += usize::from(timeout(Duration::from_millis(1), stream.read_u8()).await.is_ok());
        }
        assert_eq!(closed, 1);
    }
}
