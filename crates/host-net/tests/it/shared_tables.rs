//! What one guest could use up that all share: entries in tables of the kernel; and
//! how it is refused.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use hearth_guest_protocol::message::{APP_GATEWAY, RESOLVER};
use hearth_host_net::Egress;

use crate::world::{CLOSED, Guest, HOST_PUBLIC, INTERNET, PORT, ask, guest_on, inside, ip, on_a_host, start};

fn flows() -> usize {
    let text = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
    text.trim().parse().unwrap()
}

#[test]
fn one_guest_cannot_fill_the_hosts_table_of_connections() {
    on_a_host(|| async {
        let net = start("flows", &[]).await;
        let (network, guest) = guest_on(&net).await;
        // On a busy machine this takes longer than a flow is remembered by default.
        let remember = || std::fs::write("/proc/sys/net/netfilter/nf_conntrack_udp_timeout", "600").unwrap();
        remember();
        inside(&network.namespace(), remember);
        let before = flows();
        let most = hearth_host_net::FLOWS_MAX;
        // Frames get lost on the way when they come too fast.
        for _ in 0..40 {
            if flows().saturating_sub(before) >= most {
                break;
            }
            guest.run(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                for port in 0..u16::try_from(most + 3000).unwrap() {
                    // A refusal of an earlier one is told to a later one.
                    let _ = socket.send_to(b"x", SocketAddr::from((INTERNET, 2000 + port)));
                    if port % 128 == 0 {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
            });
        }
        let held = flows().saturating_sub(before);
        assert!((most..=most + 64).contains(&held), "{held} flows");
        assert!(guest.run(|| ask(INTERNET, PORT)).is_err(), "there is no place for another");
        let (_network, other) = guest_on(&net).await;
        assert!(other.run(|| ask(INTERNET, PORT)).is_ok(), "another guest has its own");
        net.shutdown().await.unwrap();
    });
}

#[test]
fn every_refusal_is_answered_at_once() {
    const TRIES: usize = 430;
    on_a_host(|| async {
        let net = start("refusals", &[]).await;
        let (_network, guest) = guest_on(&net).await;
        for address in [CLOSED[0], CLOSED[4], HOST_PUBLIC, APP_GATEWAY.into()] {
            guest.run(|| {
                for _ in 0..TRIES {
                    let error = ask(address, PORT).unwrap_err();
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{address}: {error}");
                }
                for _ in 0..TRIES {
                    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                    socket.connect((address, PORT)).unwrap();
                    socket.send(b"x").unwrap();
                    let error = socket.recv(&mut [0]).unwrap_err();
                    assert_eq!(error.kind(), std::io::ErrorKind::HostUnreachable, "{address}: {error}");
                }
            });
        }
        net.shutdown().await.unwrap();
    });
}

#[test]
fn queries_from_many_ports_take_few_entries() {
    on_a_host(|| async {
        let net = start("askers", &[]).await;
        let (network, guest) = guest_on(&net).await;
        guest.run(|| {
            for _ in 0..2000 {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                // A refusal of an earlier one is told to a later one.
                let _ = socket.send_to(b"x", SocketAddr::from((Ipv4Addr::from(RESOLVER), 53)));
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        let held = inside(&network.namespace(), flows);
        assert!((500..=1100).contains(&held), "{held} flows");
        net.shutdown().await.unwrap();
    });
}

#[test]
fn one_guest_cannot_fill_the_table_of_neighbours() {
    on_a_host(|| async {
        let net = start("neighbours", &[]).await;
        let network = net.acquire(Egress::Internet).await.unwrap();
        let guest = Guest::on(network.take_taps().unwrap());
        guest.run(|| {
            for number in 1..40 {
                let source = Ipv4Addr::new(9, 0, 0, number);
                ip(&format!("addr add {source}/32 dev eth0"));
                ip("neigh flush all");
                // Makes the guest ask who has the gateway's address, in the name of this one.
                let socket = UdpSocket::bind((source, 0)).unwrap();
                let _ = socket.send_to(b"x", SocketAddr::from((Ipv4Addr::from(APP_GATEWAY), 9)));
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let known = inside(&network.namespace(), || ip("-4 neigh show"));
        assert!(!known.contains("9.0.0."), "{known}");
        assert!(guest.run(|| ask(INTERNET, PORT)).is_ok());
        net.shutdown().await.unwrap();
    });
}
