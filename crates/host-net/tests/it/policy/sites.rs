//! Sites that share an address.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hearth_host_net::{Decision, Egress, Held};

use super::{A, SUCCESS, goes_through, on_a_guest, policy, refused, resolve};
use crate::world::{Guest, PORT, SITES, ask, eventually};

/// The first message of a TLS client that asks for a name.
fn hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().unwrap();
    let mut hello = Vec::new();
    rustls::ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut hello).unwrap();
    hello
}

fn connect(address: Ipv4Addr, port: u16) -> TcpStream {
    let stream = TcpStream::connect((address, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

/// What comes back when a TLS client asks for a name, in two halves.
fn tls(address: Ipv4Addr, name: &str) -> Vec<u8> {
    let (mut stream, hello) = (connect(address, 443), hello(name));
    let (first, second) = hello.split_at(hello.len() / 2);
    stream.write_all(first).unwrap();
    thread::sleep(Duration::from_millis(20));
    stream.write_all(second).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while answer != DENIED && answer.len() < hello.len() && stream.read(&mut byte).unwrap() > 0 {
        answer.push(byte[0]);
    }
    assert_eq!(answer == hello, answer.starts_with(&[22]), "what was sent comes back as it was");
    answer
}

/// Sends a request on a connection; status and body of the answer.
fn http(stream: &mut TcpStream, target: &str, host: &str) -> (u16, String) {
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\nX-Mine: 1\r\n\r\n").unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .to_lowercase()
        .split("content-length: ")
        .nth(1)
        .unwrap()
        .split("\r\n")
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), String::from_utf8(body).unwrap())
}

const DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

#[test]
fn a_shared_address_is_open_for_the_allowed_site_alone() {
    on_a_guest(r#"[{"domain": "site.example.com"}]"#, |_, guest, guard| async move {
        guest.run(|| {
            refused(ask(SITES[0], 443));
            assert_eq!(resolve("site.example.com", A), (SUCCESS, 1));
            assert_ne!(tls(SITES[0], "site.example.com"), DENIED);
            assert_ne!(tls(SITES[0], "Site.Example.com"), DENIED);
            assert_eq!(tls(SITES[0], "other.example.com"), DENIED);
            let mut nothing = connect(SITES[0], 443);
            nothing.write_all(b"SSH-2.0-x\r\n").unwrap();
            let mut answer = [0; 7];
            nothing.read_exact(&mut answer).unwrap();
            assert_eq!(answer, DENIED);

            let mut stream = connect(SITES[0], PORT);
            let (status, told) = http(&mut stream, "/a?b", "site.example.com");
            assert_eq!(status, 200);
            assert!(told.starts_with("GET /a?b HTTP/1.1\r\n") && told.contains("X-Mine: 1"), "{told}");
            assert_eq!(http(&mut stream, "/", "SITE.example.com:80").0, 200, "on the same connection");
            for host in ["other.example.com", "site.example.com.evil.org", ""] {
                let (status, sentence) = http(&mut stream, "/", host);
                assert!(status == 403 && sentence.contains("egress policy"), "{host}: {status} {sentence}");
            }
            assert_eq!(http(&mut stream, "http://evil.org/", "site.example.com").0, 403);
            assert_eq!(http(&mut stream, "/", "site.example.com:80,evil.org").0, 403);
            let (status, told) =
                http(&mut stream, "/", "site.example.com\r\nConnection: Upgrade\r\nUpgrade: h2c");
            assert!(status == 200 && !told.to_lowercase().contains("h2c"), "{told}");
            refused(ask(SITES[1], 443));
            refused(ask(Ipv4Addr::from(hearth_guest_protocol::message::APP_GATEWAY), 1022));
        });
        let other = |it: &Decision| it.attempt.name.as_deref() == Some("other.example.com");
        let (made, _) = guard.decisions().list();
        assert!(
            made.iter().filter(|it| other(it)).count() >= 2
                && made.iter().all(|it| !other(it) || !it.attempt.allowed)
        );
        let site = made.iter().find(|it| it.attempt.port == 443 && it.attempt.allowed).unwrap();
        assert_eq!(
            (site.attempt.name.as_deref(), site.rule, site.count),
            (Some("site.example.com"), Some(1), 2)
        );
    });
}

#[test]
fn a_site_that_is_no_longer_allowed_loses_its_connections() {
    on_a_guest(r#"[{"domain": "site.example.com"}]"#, |_, guest, guard| async move {
        let (mut stream, hello) = (
            guest.run(|| {
                resolve("site.example.com", A);
                connect(SITES[0], 443)
            }),
            hello("site.example.com"),
        );
        stream.write_all(&hello).unwrap();
        stream.read_exact(&mut vec![0; hello.len()]).unwrap();
        guard.set_policy(policy(r#"[{"domain": "*.example.com"}]"#)).unwrap();
        goes_through(&mut stream).unwrap();
        guard.set_policy(policy(r#"[{"domain": "b.example.com"}]"#)).unwrap();
        let began = Instant::now();
        let over = stream.read(&mut [0; 5]);
        assert!(matches!(over, Ok(0) | Err(_)) && began.elapsed() < Duration::from_secs(1), "{over:?}");
    });
}

/// A connection at port 80 on which this was asked for, and whose answer has begun.
fn begun(target: &str, more: &str) -> TcpStream {
    let mut stream = connect(SITES[0], PORT);
    write!(stream, "GET {target} HTTP/1.1\r\nHost: site.example.com\r\n{more}\r\n").unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    stream
}

/// Whether the connection ends within a second.
fn ends(stream: &mut TcpStream) -> bool {
    let began = Instant::now();
    let mut buffer = [0; 4096];
    while began.elapsed() < Duration::from_secs(1) {
        if matches!(stream.read(&mut buffer), Ok(0) | Err(_)) {
            return true;
        }
    }
    false
}

#[test]
fn bodies_and_websockets_end_with_the_rule_and_with_the_network() {
    const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let rules = r#"[{"domain": "site.example.com"}]"#;
    on_a_guest(rules, move |net, guest, guard| async move {
        let (mut body, mut socket) = guest.run(|| {
            resolve("site.example.com", A);
            (begun("/stream", ""), begun("/switch", WEBSOCKET))
        });
        goes_through(&mut socket).unwrap();
        guard.set_policy(policy("[]")).unwrap();
        assert!(ends(&mut body) && ends(&mut socket));

        // What is copied ends with the network: the sites' end is closed at once.
        let held = Held { policy: policy(rules), ..Held::default() };
        let network = net.acquire(Egress::Policy(held)).await.unwrap();
        let other = Guest::on(network.take_taps().unwrap());
        let _socket = other.run(|| {
            resolve("site.example.com", A);
            begun("/switch", WEBSOCKET)
        });
        let sockets = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = sockets();
        network.release().await;
        eventually("the server has closed its two sockets, and more", || sockets() + 2 <= before);
    });
}

#[test]
fn a_range_stays_open_beside_a_domain_of_the_same_address() {
    let rules = r#"[{"domain": "site.example.com"}, {"cidr": "9.9.9.9", "protocol": "tcp"}]"#;
    on_a_guest(rules, |_, guest, _| async move {
        guest.run(|| {
            assert_ne!(tls(SITES[0], "other.example.com"), DENIED);
            assert_eq!(resolve("site.example.com", A), (SUCCESS, 1));
            assert_ne!(tls(SITES[0], "other.example.com"), DENIED);
            assert_eq!(http(&mut connect(SITES[0], PORT), "/", "other.example.com").0, 200);
        });
    });
}
