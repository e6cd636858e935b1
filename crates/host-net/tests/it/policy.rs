//! Networks that are held to a policy.

mod sites;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hearth_egress_policy::{Policy, RuleText};
use hearth_guest_protocol::message::RESOLVER;
use hearth_host_net::{Decision, Egress, Guard, Held, HostNet, HostNetConfig, Kind};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::world::{
    CLOSED, ECHO, ELSEWHERE, Guest, HOST_PUBLIC, INTERNET, PORT, SITES, ask, config, eventually, on_a_host,
};

const SUCCESS: u8 = 0;
const NAME_ERROR: u8 = 3;
const A: u16 = 1;
const HTTPS: u16 = 65;
const TCP: u8 = 6;
const UDP: u8 = 17;

fn policy(rules: &str) -> Arc<Policy> {
    let rules: Vec<RuleText> = serde_json::from_str(rules).unwrap();
    Arc::new(Policy::parse(&rules).unwrap())
}

/// A question of this type, with recursion desired.
fn question(name: &str, record_type: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend([record_type.to_be_bytes(), 1_u16.to_be_bytes()].concat());
    message
}

/// A name server on the host that knows one address of every name.
fn nameserver() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer[..length].to_vec();
            answer[2] |= 0x80;
            answer[7] = 1;
            let asked = String::from_utf8_lossy(&buffer[12..length]).to_lowercase();
            let address = match &*asked {
                asked if asked.contains("rebinding") => CLOSED[0],
                asked if asked.contains("site") => SITES[0],
                _ => INTERNET,
            };
            // A pointer to the name, type A, class IN, 300 seconds, four bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4]);
            answer.extend(address.octets());
            socket.send_to(&answer, client).unwrap();
        }
    });
    address
}

/// Asks from the current namespace; the code of the answer, and how many records it has.
fn resolve(name: &str, record_type: u16) -> (u8, u8) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.connect((Ipv4Addr::from(RESOLVER), 53)).unwrap();
    socket.send(&question(name, record_type)).unwrap();
    let mut buffer = [0; 4096];
    socket.recv(&mut buffer).unwrap();
    (buffer[3] & 0x0f, buffer[7])
}

/// Sends to the echo from the current namespace; whether it comes back.
fn echoed(socket: &UdpSocket) -> bool {
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut buffer = [0; 8];
    socket.send(b"hello").and_then(|_| socket.recv(&mut buffer)).is_ok()
}

fn udp(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect((INTERNET, port)).unwrap();
    socket
}

/// Whether an address answers an echo request of ICMP (RFC 792).
fn pinged(address: Ipv4Addr) -> bool {
    let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Icmp).unwrap();
    let socket = UdpSocket::from(raw);
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.connect((address, 0)).unwrap();
    // Type 8, code 0, a checksum that fits number 0 of the sender 0.
    socket.send(&[8, 0, 0xf7, 0xff, 0, 0, 0, 0]).unwrap();
    let mut answer = [0; 64];
    socket.recv(&mut answer).is_ok_and(|length| length >= 28 && answer[20] == 0)
}

fn goes_through(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"hello")?;
    stream.read_exact(&mut [0; 5])
}

fn refused(result: std::io::Result<String>) {
    assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// A guest on a network with this policy.
fn on_a_guest<F: Future<Output = ()>>(
    rules: &'static str,
    body: impl FnOnce(Arc<HostNet>, Guest, Arc<Guard>) -> F + Send + 'static,
) {
    on_a_host(move || async move {
        let settings = HostNetConfig { upstream_resolvers: Some(vec![nameserver()]), ..config("policy") };
        let net = HostNet::start(settings).await.unwrap();
        let network =
            net.acquire(Egress::Policy(Held { policy: policy(rules), ..Held::default() })).await.unwrap();
        let guest = Guest::on(network.take_taps().unwrap());
        body(Arc::clone(&net), guest, network.guard().unwrap()).await;
        network.release().await;
        net.shutdown().await.unwrap();
    });
}

fn made(guard: &Guard, is_wanted: impl Fn(&Decision) -> bool) -> Option<Decision> {
    guard.decisions().list().0.into_iter().find(is_wanted)
}

#[test]
fn an_allowed_name_opens_its_addresses_and_no_others() {
    on_a_guest(
        r#"[{"domain": "*.example.com", "protocol": "tcp", "ports": ["80"]}]"#,
        |_, guest, guard| async move {
            guest.run(|| {
                refused(ask(INTERNET, PORT));
                assert_eq!(resolve("a.example.com", A), (SUCCESS, 1));
                assert_eq!(ask(INTERNET, PORT).unwrap(), HOST_PUBLIC.to_string());
                refused(ask(ELSEWHERE, PORT));
                refused(ask(INTERNET, ECHO));
                for name in
                    ["example.com", "example.org", "xexample.com", "example.com.evil.org", "a b.example.com"]
                {
                    assert_eq!(resolve(name, A), (NAME_ERROR, 0), "{name}");
                }
                assert_eq!(resolve("A.Example.COM", HTTPS), (SUCCESS, 0), "no keys to hide names with");
                assert_eq!(resolve("rebinding.example.com", A), (NAME_ERROR, 0));
                refused(ask(CLOSED[0], PORT));
                assert!(!echoed(&udp(443)), "QUIC");
            });
            let flow = |allowed, address, port| {
                let is_it = move |made: &Decision| {
                    let attempt = &made.attempt;
                    attempt.kind == Kind::Flow(TCP)
                        && (attempt.allowed, attempt.address, attempt.port) == (allowed, Some(address), port)
                };
                let guard = Arc::clone(&guard);
                eventually("the flow is logged", move || made(&guard, is_it).is_some());
            };
            flow(true, INTERNET, PORT);
            flow(false, ELSEWHERE, PORT);
            flow(false, INTERNET, ECHO);
            flow(false, CLOSED[0], PORT);
            let allowed =
                made(&guard, |it| it.attempt.allowed && it.attempt.kind == Kind::Flow(TCP)).unwrap();
            assert_eq!((allowed.attempt.name.as_deref(), allowed.rule), (Some("a.example.com"), Some(1)));
            let asked = |name: &str| {
                made(&guard, |it| it.attempt.kind == Kind::Dns && it.attempt.name.as_deref() == Some(name))
            };
            assert!(asked("a.example.com").unwrap().attempt.allowed);
            assert!(!asked("example.org").unwrap().attempt.allowed);
            let rebound = asked("rebinding.example.com").unwrap();
            assert!(!rebound.attempt.allowed && rebound.why.unwrap().contains("closed to guests"));
        },
    );
}

#[test]
fn ranges_are_open_for_their_protocol_and_ports() {
    let rules = r#"[{"cidr": "8.8.8.8", "protocol": "udp", "ports": ["1-100"]}, {"cidr": "8.8.8.8/31", "protocol": "tcp", "ports": ["80"]},
                    {"cidr": "10.0.0.0/8"}]"#;
    on_a_guest(rules, |_, guest, guard| async move {
        guest.run(|| {
            assert!(echoed(&udp(ECHO)));
            assert!(!echoed(&udp(101)));
            ask(INTERNET, PORT).unwrap();
            ask(ELSEWHERE, PORT).unwrap();
            refused(ask(INTERNET, ECHO));
            refused(ask(CLOSED[0], PORT));
            assert_eq!(resolve("a.example.com", A), (NAME_ERROR, 0), "no rule has a name");
        });
        eventually("what is closed to all guests is told so", || {
            let refused = |it: &Decision| {
                it.attempt.address == Some(CLOSED[0]) && it.why == Some("it is closed to guests")
            };
            made(&guard, refused).is_some()
        });
        let flow = |it: &Decision| it.attempt.kind == Kind::Flow(UDP) && it.attempt.allowed;
        assert_eq!(made(&guard, flow).unwrap().rule, Some(1));
    });
}

#[test]
fn every_protocol_of_a_range_may_be_open() {
    on_a_guest(r#"[{"cidr": "8.8.8.0/30"}, {"cidr": "8.8.8.8/32"}]"#, |_, guest, _| async move {
        guest.run(|| {
            assert!(echoed(&udp(ECHO)));
            ask(INTERNET, PORT).unwrap();
            assert!(pinged(INTERNET) && !pinged(ELSEWHERE));
            refused(ask(ELSEWHERE, PORT));
        });
    });
}

#[test]
fn a_changed_policy_cuts_what_it_does_not_allow_and_nothing_else() {
    let both = r#"[{"domain": "a.example.com", "ports": ["7"]}, {"cidr": "8.8.8.9", "protocol": "tcp", "ports": ["7"]},
                   {"cidr": "8.8.8.8", "protocol": "udp", "ports": ["7"]}]"#;
    on_a_guest(both, |_, guest, guard| async move {
        let (mut by_name, mut by_address, datagrams) = guest.run(|| {
            assert_eq!(resolve("a.example.com", A), (SUCCESS, 1));
            let connect = |address| TcpStream::connect((address, ECHO)).unwrap();
            (connect(INTERNET), connect(ELSEWHERE), udp(ECHO))
        });
        goes_through(&mut by_name).unwrap();
        goes_through(&mut by_address).unwrap();
        assert!(echoed(&datagrams));

        guard.set_policy(policy(r#"[{"domain": "a.example.com", "ports": ["7"]}]"#)).unwrap();
        goes_through(&mut by_name).unwrap();
        let began = Instant::now();
        let error = goes_through(&mut by_address).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(1), "{error}");
        assert!(!echoed(&datagrams));
        guest.run(|| refused(ask(ELSEWHERE, ECHO)));

        guard.set_policy(policy("[]")).unwrap();
        goes_through(&mut by_name).unwrap_err();
        assert_eq!(guest.run(|| resolve("a.example.com", A)), (NAME_ERROR, 0));
        guard.set_policy(policy(r#"[{"cidr": "0.0.0.0/0"}]"#)).unwrap();
        guest.run(|| ask(INTERNET, PORT).unwrap());
    });
}

#[test]
fn a_later_server_goes_on_with_the_policy_and_cuts_nothing() {
    on_a_host(|| async {
        let settings = || HostNetConfig { upstream_resolvers: Some(vec![nameserver()]), ..config("heir") };
        let rules =
            Held { policy: policy(r#"[{"domain": "a.example.com", "ports": ["7"]}]"#), ..Held::default() };
        let net = HostNet::start(settings()).await.unwrap();
        let network = net.acquire(Egress::Policy(rules.clone())).await.unwrap();
        let guest = Guest::on(network.take_taps().unwrap());
        let mut stream = guest.run(|| {
            resolve("a.example.com", A);
            TcpStream::connect((INTERNET, ECHO)).unwrap()
        });
        goes_through(&mut stream).unwrap();
        let (namespace, uplink) = (network.namespace().try_clone().unwrap(), network.uplink());
        network.leave();
        net.shutdown().await.unwrap();
        goes_through(&mut stream).unwrap();
        guest.run(|| refused(ask(ELSEWHERE, ECHO)));

        let net = HostNet::prepare(settings()).await.unwrap();
        let egress = Egress::Policy(rules);
        let network = net.adopt(namespace, uplink.as_deref(), &egress).await.unwrap();
        net.sweep().await.unwrap();
        goes_through(&mut stream).unwrap();
        guest.run(|| {
            refused(ask(INTERNET, ECHO));
            assert_eq!(resolve("a.example.com", A), (SUCCESS, 1));
            TcpStream::connect((INTERNET, ECHO)).unwrap();
        });
        network.release().await;
        net.shutdown().await.unwrap();
    });
}
