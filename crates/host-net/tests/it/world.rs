//! A host, an internet and guests made of network namespaces.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hearth_guest_protocol::message::{APP_MAC, CONTROL_MAC};
use hearth_host_net::{Egress, HostNet, HostNetConfig, Ipv4Cidr, Network, Taps};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};

/// The host's own public address.
pub(crate) const HOST_PUBLIC: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 1);
/// A machine on the internet.
pub(crate) const INTERNET: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
/// Further addresses that the "internet" machine answers on, all in closed ranges; were they not
/// closed, the host's default route would lead there.
pub(crate) const CLOSED: [Ipv4Addr; 5] = [
    Ipv4Addr::new(10, 1, 2, 3),
    Ipv4Addr::new(172, 16, 5, 5),
    Ipv4Addr::new(192, 168, 7, 7),
    Ipv4Addr::new(100, 64, 0, 9),
    Ipv4Addr::new(169, 254, 169, 254),
];
/// Another one, which is the same.
pub(crate) const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 9);
/// A machine with sites on two addresses: HTTP that tells what it was asked for, and where TLS
/// would be, what is sent comes back.
pub(crate) const SITES: [Ipv4Addr; 2] = [Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(9, 9, 9, 10)];
/// Port of the internet machine where what is sent comes back, over TCP and UDP (RFC 862).
pub(crate) const ECHO: u16 = 7;
/// Port that answers on every address of the internet machine and of the host.
pub(crate) const PORT: u16 = 80;

nix::ioctl_write_ptr_bad!(
    tun_set_iff,
    nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
    libc::ifreq
);

/// Runs the body inside a fresh "host" that is connected to a fresh "internet".
pub(crate) fn on_a_host<F: Future<Output = ()>>(body: impl FnOnce() -> F + Send + 'static) {
    let host = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        ip("link set lo up");
        let internet = new_namespace();
        ip(&format!("link add wan0 type veth peer name eth0 netns {}", path_of(&internet)));
        ip(&format!("addr add {HOST_PUBLIC}/24 dev wan0"));
        ip("link set wan0 up");
        ip(&format!("route add default via {INTERNET}"));
        inside(&internet, || {
            ip(&format!("addr add {INTERNET}/24 dev eth0"));
            ip(&format!("addr add {ELSEWHERE}/24 dev eth0"));
            ip("link set eth0 up");
            echo(ECHO);
            for address in CLOSED {
                ip(&format!("addr add {address}/32 dev lo"));
            }
            answer_on(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT));
        });
        add_sites();
        answer_on(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(body());
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Settings that suit the tests.
pub(crate) fn config(instance: &str) -> HostNetConfig {
    HostNetConfig {
        instance: instance.to_owned(),
        address_range: HostNetConfig::DEFAULT_ADDRESS_RANGE,
        allow_egress_to: Vec::new(),
        upstream_resolvers: Some(Vec::new()),
        pool_size: 0,
    }
}

pub(crate) async fn start(instance: &str, allowed: &[&str]) -> Arc<HostNet> {
    let allow_egress_to = allowed.iter().map(|range| range.parse::<Ipv4Cidr>().unwrap()).collect();
    HostNet::start(HostNetConfig { allow_egress_to, ..config(instance) }).await.unwrap()
}

/// Makes a namespace with loopback up.
fn new_namespace() -> OwnedFd {
    let made = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        File::open("/proc/thread-self/ns/net").unwrap().into()
    });
    made.join().unwrap()
}

/// Runs `action` on a thread inside a namespace.
pub(crate) fn inside<T: Send>(namespace: &OwnedFd, action: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let visit = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            action()
        });
        visit.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `ip` in the current namespace.
pub(crate) fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

/// Runs a program, which must succeed.
pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn path_of(descriptor: &OwnedFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), descriptor.as_raw_fd())
}

/// Serves, on a thread in the current namespace: tells each client the address it is seen with.
pub(crate) fn answer_on(address: SocketAddrV4) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_string();
            // The client may be gone again.
            let _ = stream.write_all(peer.as_bytes());
        }
    });
}

/// Connects the machine with sites to the host that the current namespace is.
fn add_sites() {
    let sites = new_namespace();
    ip(&format!("link add wan1 type veth peer name eth0 netns {}", path_of(&sites)));
    ip("addr add 9.9.9.1/24 dev wan1");
    ip("link set wan1 up");
    inside(&sites, || {
        for address in SITES {
            ip(&format!("addr add {address}/24 dev eth0"));
        }
        ip("link set eth0 up");
        ip("route add default via 9.9.9.1");
        echo(443);
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || tell_requests(stream.unwrap()));
            }
        });
    });
}

/// Answers each request of a connection with its head.
fn tell_requests(mut stream: TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") && head.starts_with(b"GET /switch") {
            let switched =
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
            stream.write_all(switched).unwrap();
            let _ = std::io::copy(&mut &stream, &mut &stream);
            return;
        }
        if head.ends_with(b"\r\n\r\n") && head.starts_with(b"GET /stream") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            while stream.write_all(b"more").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
            return;
        }
        if head.ends_with(b"\r\n\r\n") {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len());
            // The client may be gone again.
            let _ = stream.write_all(&[answer.as_bytes(), &head].concat());
            head.clear();
        }
    }
}

/// Sends everything back, on threads in the current namespace.
fn echo(port: u16) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // The client may be gone again.
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
}

/// Connects from the current namespace and reads what [`answer_on`] says.
pub(crate) fn ask(address: Ipv4Addr, port: u16) -> std::io::Result<String> {
    let target = SocketAddr::from((address, port));
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Waits until `predicate` holds.
pub(crate) fn eventually(what: &str, mut predicate: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !predicate() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A namespace in the place of a guest, with the guest's two NICs wired to the TAPs.
#[derive(Debug)]
pub(crate) struct Guest {
    namespace: OwnedFd,
    /// Closing it ends the threads that copy frames.
    _running: std::io::PipeWriter,
}

impl Guest {
    pub(crate) fn on(taps: Taps) -> Self {
        let namespace = new_namespace();
        let (app, control) = inside(&namespace, || {
            let nics = (open_tap("eth0"), open_tap("eth1"));
            for (name, mac, address) in
                [("eth0", APP_MAC, "192.168.241.2/30"), ("eth1", CONTROL_MAC, "169.254.254.2/30")]
            {
                let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
                ip(&format!("link set {name} address {mac} up"));
                ip(&format!("addr add {address} dev {name}"));
            }
            ip("route add default via 192.168.241.1");
            nics
        });
        let (stop, running) = std::io::pipe().unwrap();
        wire(taps.app, app, stop.try_clone().unwrap());
        wire(taps.control, control, stop);
        Self { namespace, _running: running }
    }

    /// Opens the way to its loopback, with programs, as the agent does it with
    /// messages to the kernel.
    pub(crate) fn open_loopback(&self) {
        self.run(|| {
            run("nft", "add table netdev hearth");
            let hook = "{ type filter hook ingress device eth0 priority 0; }";
            run("nft", &format!("add chain netdev hearth endpoint {hook}"));
            run("nft", "add rule netdev hearth endpoint ip saddr 127.0.0.1 meta mark set 72");
            ip("route add default via 192.168.241.1 table 72");
            ip("rule add pref 20 lookup local");
            ip("rule del pref 0");
            ip("rule add pref 10 iif lo fwmark 72 lookup 72");
            for name in
                ["tcp_fwmark_accept", "fwmark_reflect", "conf/eth0/accept_local", "conf/eth0/route_localnet"]
            {
                std::fs::write(format!("/proc/sys/net/ipv4/{name}"), "1").unwrap();
            }
        });
    }

    /// Runs `action` in the guest.
    pub(crate) fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        inside(&self.namespace, action)
    }
}

/// A network, and a guest on it.
pub(crate) async fn guest_on(net: &HostNet) -> (Network, Guest) {
    let network = net.acquire(Egress::Internet).await.unwrap();
    let guest = Guest::on(network.take_taps().unwrap());
    (network, guest)
}

fn open_tap(name: &str) -> OwnedFd {
    let file: File = OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: all zeroes is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: the descriptor is open and `request` outlives the call.
    unsafe { tun_set_iff(file.as_raw_fd(), &raw const request) }.unwrap();
    file.into()
}

/// Copies frames between two TAPs until `stop` is closed.
fn wire(one: OwnedFd, other: OwnedFd, stop: std::io::PipeReader) {
    thread::spawn(move || {
        let (one, other) = (File::from(one), File::from(other));
        let mut frame = vec![0; 65600];
        loop {
            let mut wanted = [
                PollFd::new(one.as_fd(), PollFlags::POLLIN),
                PollFd::new(other.as_fd(), PollFlags::POLLIN),
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut wanted, PollTimeout::NONE).unwrap();
            let ready = wanted.each_ref().map(|fd| fd.any().unwrap_or(false));
            if ready[2] {
                return;
            }
            for (is_ready, mut from, mut to) in [(ready[0], &one, &other), (ready[1], &other, &one)] {
                if is_ready {
                    let length = from.read(&mut frame).unwrap();
                    // An interface that is not up yet takes no frames.
                    let _ = to.write_all(&frame[..length]);
                }
            }
        }
    });
}
