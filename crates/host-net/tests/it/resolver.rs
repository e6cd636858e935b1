//! The DNS relay, asked from the guest.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use hearth_guest_protocol::message::RESOLVER;
use hearth_host_net::{Egress, HostNet, HostNetConfig};

use crate::world::{Guest, config, on_a_host};

/// A query for `name` (RFC 1035), recursion desired.
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// The answer that a fake nameserver gives: the query with the response bit, a code
/// and a mark behind it.
fn answer(query: &[u8], code: u8, mark: &[u8]) -> Vec<u8> {
    let mut message = query.to_vec();
    message[2] |= 0x80;
    message[3] = 0x80 | code;
    message.extend(mark);
    message
}

/// A nameserver on the host's loopback, over UDP and TCP.
fn nameserver(code: u8, mark: &'static [u8]) -> SocketAddr {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = udp.recv_from(&mut buffer) {
            let right = answer(&buffer[..length], code, mark);
            let mut forged = right.clone();
            forged[0] ^= 0xff;
            udp.send_to(&forged, client).unwrap();
            udp.send_to(&right, client).unwrap();
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let asked = read_framed(&mut stream);
            write_framed(&mut stream, &answer(&asked, code, mark));
        }
    });
    address
}

fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

fn write_framed(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(&u16::try_from(message.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(message).unwrap();
}

fn ask_udp(query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    socket.connect((Ipv4Addr::from(RESOLVER), 53)).unwrap();
    socket.send(query).unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    buffer[..length].to_vec()
}

fn on_a_guest(servers: Vec<SocketAddr>, body: impl FnOnce(&Guest) + Send + 'static) {
    on_a_host(move || async move {
        let settings = HostNetConfig { upstream_resolvers: Some(servers), ..config("dns") };
        let net = HostNet::start(settings).await.unwrap();
        let network = net.acquire(Egress::Internet).await.unwrap();
        let guest = Guest::on(network.take_taps().unwrap());
        body(&guest);
        net.shutdown().await.unwrap();
    });
}

#[test]
fn names_are_resolved_through_a_loopback_nameserver_of_the_host() {
    on_a_host(|| async {
        let refusing = nameserver(5, b"refusing");
        let right = nameserver(0, b"right");
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let closed = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let servers = Some(vec![closed, refusing, silent.local_addr().unwrap(), right]);
        let net =
            HostNet::start(HostNetConfig { upstream_resolvers: servers, ..config("dns") }).await.unwrap();
        let network = net.acquire(Egress::Internet).await.unwrap();
        let guest = Guest::on(network.take_taps().unwrap());
        for (id, name) in [(0x1234, "example.com"), (0xffff, "a.b.c")] {
            let asked = query(id, name);
            assert_eq!(
                guest.run(|| ask_udp(&asked)),
                answer(&asked, 0, b"right"),
                "the server that knows is found"
            );
        }
        let over_tcp = guest.run(|| {
            let mut stream = TcpStream::connect((Ipv4Addr::from(RESOLVER), 53)).unwrap();
            let (first, second) = (query(1, "first.example"), query(2, "second.example"));
            write_framed(&mut stream, &first);
            write_framed(&mut stream, &second);
            [(read_framed(&mut stream), first), (read_framed(&mut stream), second)]
        });
        for (got, asked) in over_tcp {
            assert_eq!(got, answer(&asked, 0, b"right"));
        }
        net.shutdown().await.unwrap();
    });
}

#[test]
fn without_a_nameserver_the_guest_is_told_at_once() {
    on_a_guest(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 1))], |guest| {
        let asked = query(7, "example.com");
        assert_eq!(guest.run(|| ask_udp(&asked)), answer(&asked, 2, b""));
    });
}

#[test]
fn more_queries_than_are_relayed_at_once_are_all_answered() {
    on_a_host(|| async {
        let servers = Some(vec![nameserver(0, b"")]);
        let net =
            HostNet::start(HostNetConfig { upstream_resolvers: servers, ..config("dns") }).await.unwrap();
        let network = net.acquire(Egress::Internet).await.unwrap();
        let guest = Guest::on(network.take_taps().unwrap());
        let unanswered = guest.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            socket.connect((Ipv4Addr::from(RESOLVER), 53)).unwrap();
            // Garbage and responses are no queries and take no place.
            for _ in 0..100 {
                socket.send(b"short").unwrap();
                socket.send(&answer(&query(9, "x"), 0, b"")).unwrap();
            }
            let mut unanswered: BTreeSet<u16> = (0..150).collect();
            let mut buffer = [0; 512];
            // Datagrams may get lost; clients ask again.
            for _ in 0..5 {
                for &id in &unanswered {
                    socket.send(&query(id, "example.com")).unwrap();
                }
                while !unanswered.is_empty() && socket.recv(&mut buffer).is_ok() {
                    unanswered.remove(&u16::from_be_bytes([buffer[0], buffer[1]]));
                }
            }
            unanswered.len()
        });
        assert_eq!(unanswered, 0);
        net.shutdown().await.unwrap();
    });
}

/// A message that is no query for records, by what it is.
fn more_than_queries() -> Vec<(&'static str, Vec<u8>, u8)> {
    let with = |opcode: u8, record_type: u8, class: u8| {
        let mut message = query(0x4711, "internal.corp");
        message[2] |= opcode << 3;
        let end = message.len();
        message[end - 3] = record_type;
        message[end - 1] = class;
        message
    };
    let mut twice = query(0x4711, "internal.corp");
    let question = twice[12..].to_vec();
    twice[5] = 2;
    twice.extend(question);
    vec![
        ("UPDATE", with(5, 6, 1), 4),
        ("NOTIFY", with(4, 6, 1), 4),
        ("STATUS", with(2, 1, 1), 4),
        ("AXFR", with(0, 252, 1), 5),
        ("IXFR", with(0, 251, 1), 5),
        ("ANY", with(0, 255, 1), 5),
        ("CHAOS", with(0, 16, 3), 5),
        ("two questions", twice, 1),
    ]
}

#[test]
fn nothing_but_queries_for_records_is_asked_with_the_hosts_address() {
    on_a_host(|| async {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).unwrap();
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let net = HostNet::start(HostNetConfig { upstream_resolvers: Some(vec![address]), ..config("dns") })
            .await
            .unwrap();
        let network = net.acquire(Egress::Internet).await.unwrap();
        let guest = Guest::on(network.take_taps().unwrap());
        for (what, message, code) in more_than_queries() {
            let over_tcp = || {
                let mut stream = TcpStream::connect((Ipv4Addr::from(RESOLVER), 53)).unwrap();
                write_framed(&mut stream, &message);
                read_framed(&mut stream)
            };
            for answer in [guest.run(|| ask_udp(&message)), guest.run(over_tcp)] {
                assert_eq!((answer[..2].to_vec(), answer[3] & 0x0f), (message[..2].to_vec(), code), "{what}");
            }
        }
        assert!(udp.recv(&mut [0; 512]).is_err() && tcp.accept().is_err(), "nothing of it was passed on");
        net.shutdown().await.unwrap();
    });
}
