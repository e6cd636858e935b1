//! Looks up IPv4 addresses at the namespace's DNS relay.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a question is asked over UDP.
const TRIES: usize = 2;
/// Largest answer over UDP.
const DATAGRAM: usize = 4096;
/// Most addresses of a name that are used.
const ADDRESSES: usize = 8;

/// Addresses of `host`; none when there are none or they could not be found out.
pub(crate) async fn addresses(relay: SocketAddr, host: &str) -> Vec<Ipv4Addr> {
    let Ok(mut name) = Name::from_ascii(host) else { return Vec::new() };
    name.set_fqdn(true);
    let mut id = [0; 2];
    if aws_lc_rs::rand::fill(&mut id).is_err() {
        return Vec::new();
    }
    let id = u16::from_be_bytes(id);
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name, RecordType::A));
    let Ok(bytes) = question.to_vec() else { return Vec::new() };
    for _ in 0..TRIES {
        let Ok(Some(answer)) = timeout(PATIENCE, over_udp(relay, id, &bytes)).await else { continue };
        if !answer.metadata.truncation {
            return found(&answer);
        }
        let Ok(Some(answer)) = timeout(PATIENCE, over_tcp(relay, id, &bytes)).await else { continue };
        return found(&answer);
    }
    Vec::new()
}

async fn over_udp(relay: SocketAddr, id: u16, question: &[u8]) -> Option<Message> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok()?;
    socket.connect(relay).await.ok()?;
    socket.send(question).await.ok()?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await.ok()?;
        if let Some(answer) = answer(&buffer[..length], id) {
            return Some(answer);
        }
    }
}

async fn over_tcp(relay: SocketAddr, id: u16, question: &[u8]) -> Option<Message> {
    let mut stream = TcpStream::connect(relay).await.ok()?;
    let length = u16::try_from(question.len()).ok()?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await.ok()?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await.ok()?)];
    stream.read_exact(&mut buffer).await.ok()?;
    answer(&buffer, id)
}

fn answer(bytes: &[u8], id: u16) -> Option<Message> {
    Message::from_vec(bytes)
        .ok()
        .filter(|message| message.metadata.id == id && message.metadata.message_type == MessageType::Response)
}

/// The addresses of an answer, whatever names they are of: the relay follows aliases.
fn found(answer: &Message) -> Vec<Ipv4Addr> {
    let address = |data: &RData| match data {
        RData::A(address) => Some(address.0),
        _ => None,
    };
    answer.answers.iter().filter_map(|record| address(&record.data)).take(ADDRESSES).collect()
}
