//! What other programs on the host take away: it is restored, and meanwhile nothing is open that was closed.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use hearth_host_net::{Egress, HostNet, Network};

use crate::world::{
    CLOSED, Guest, HOST_PUBLIC, INTERNET, PORT, ask, config, eventually, inside, ip, on_a_host, run, start,
};

/// An address that the host gets later.
const LATER: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);

fn reaches(guest: &Guest, address: Ipv4Addr) -> bool {
    guest.run(|| ask(address, PORT)).is_ok()
}

/// Private ranges, metadata services, the host's own services.
fn assert_closed(guest: &Guest) {
    for address in CLOSED.into_iter().chain([HOST_PUBLIC]) {
        assert!(ask(address, PORT).is_ok(), "the host itself reaches {address}");
        assert!(!reaches(guest, address), "{address}");
    }
}

async fn guest_on(net: &HostNet) -> (Network, Guest) {
    let network = net.acquire(Egress::Internet).await.unwrap();
    let guest = Guest::on(network.take_taps().unwrap());
    (network, guest)
}

/// Name of the only uplink.
fn uplink() -> String {
    let listing = ip("-o link show type veth");
    let name = listing.lines().find_map(|line| line.split(": ").nth(1).filter(|name| name.starts_with("hv")));
    name.unwrap().split('@').next().unwrap().to_owned()
}

#[test]
fn a_flush_of_the_hosts_rules_opens_nothing_and_is_mended() {
    on_a_host(|| async {
        let net = start("flushed", &[]).await;
        let (_network, guest) = guest_on(&net).await;
        let before = run("nft", "list table inet hearth_flushed");
        run("nft", "flush ruleset");
        assert_closed(&guest);
        eventually("the table is made again", || run("nft", "list tables").contains("hearth_flushed"));
        assert_eq!(run("nft", "list table inet hearth_flushed"), before);
        eventually("the guest has the internet again", || reaches(&guest, INTERNET));
        assert_closed(&guest);
        let (_network, later) = guest_on(&net).await;
        assert!(reaches(&later, INTERNET));
        assert_closed(&later);
        net.shutdown().await.unwrap();
        assert_eq!(run("nft", "list tables"), "", "a table that has to go is not made again");
    });
}

#[test]
fn a_rule_that_another_program_removes_is_made_again() {
    on_a_host(|| async {
        let net = start("edited", &[]).await;
        let before = run("nft", "list table inet hearth_edited");
        run("nft", "flush chain inet hearth_edited input");
        eventually("the rule is back", || run("nft", "list table inet hearth_edited") == before);
        run("nft", "delete table inet hearth_edited");
        eventually("the table is back", || run("nft", "list ruleset").trim() == before.trim());
        run("nft", "add table inet other");
        net.shutdown().await.unwrap();
        assert!(run("nft", "list tables").contains("inet other"), "the tables of others are theirs");
    });
}

#[test]
fn a_namespace_is_closed_by_its_own_rules() {
    on_a_host(|| async {
        // What is left of a server that was killed: nothing restores the host's table.
        let net = start("alone", &["10.1.0.0/16"]).await;
        let (network, guest) = guest_on(&net).await;
        let _namespace = network.namespace();
        network.leave();
        net.shutdown().await.unwrap();
        run("nft", "flush ruleset");
        for address in CLOSED[1..].iter().copied().chain([HOST_PUBLIC]) {
            assert!(!reaches(&guest, address), "{address}");
        }
        // Without the host's table there is no translation, so that only what the host has itself could answer.
        ip(&format!("addr add {}/32 dev lo", CLOSED[0]));
        assert!(reaches(&guest, CLOSED[0]), "the operator has opened it");
    });
}

#[test]
fn forwarding_is_switched_on_again() {
    on_a_host(|| async {
        let net = start("forwarding", &[]).await;
        let (_network, guest) = guest_on(&net).await;
        for _ in 0..2 {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
            eventually("the guest has the internet again", || reaches(&guest, INTERNET));
        }
        net.shutdown().await.unwrap();
    });
}

#[test]
fn an_uplink_that_an_interface_manager_cycles_is_restored() {
    on_a_host(|| async {
        let net = start("cycled", &[]).await;
        let (network, guest) = guest_on(&net).await;
        let name = uplink();
        let address = ip(&format!("-o -4 addr show dev {name}"));
        let address = address.split_whitespace().nth(3).unwrap();
        let range = inside(&network.namespace(), || ip("-o -4 addr show dev up0"));
        assert!(range.contains("/31"), "{range}");
        for what in [
            format!("link set {name} down"),
            format!("addr flush dev {name}"),
            format!("addr del {address} dev {name}"),
            format!("route flush dev {name}"),
            format!("link del {name}"),
            format!("link set {name} down"),
        ] {
            ip(&what);
            eventually(&what, || reaches(&guest, INTERNET));
            assert_eq!(uplink(), name);
            assert_closed(&guest);
        }
        network.release().await;
        assert!(!ip("-o link show type veth").contains(": hv"), "what was given back is not made again");
        net.shutdown().await.unwrap();
    });
}

#[test]
fn guests_are_kept_off_addresses_that_the_host_gets_later() {
    on_a_host(|| async {
        let net = HostNet::start(config("renumbered")).await.unwrap();
        let (network, guest) = guest_on(&net).await;
        ip(&format!("addr add {LATER}/32 dev lo"));
        let known = |network: &Network| {
            inside(&network.namespace(), || run("nft", "list set inet hearth host")).contains("9.9.9.9")
        };
        eventually("the namespace is told", || known(&network));
        let (later, _guest) = guest_on(&net).await;
        assert!(known(&later));
        run("nft", "flush ruleset");
        assert!(ask(LATER, PORT).is_ok() && !reaches(&guest, LATER));
        ip(&format!("addr del {LATER}/32 dev lo"));
        eventually("the namespaces are told", || !known(&network) && !known(&later));
        net.shutdown().await.unwrap();
    });
}

#[test]
fn one_guest_cannot_fill_the_hosts_table_of_connections() {
    on_a_host(|| async {
        let net = start("flows", &[]).await;
        let (_network, guest) = guest_on(&net).await;
        let count = || {
            let text = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
            text.trim().parse::<usize>().unwrap()
        };
        let before = count();
        let most = hearth_host_net::FLOWS_MAX;
        guest.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            // Frames get lost on the way when they come too fast.
            for _ in 0..3 {
                for port in 0..u16::try_from(most + 3000).unwrap() {
                    // A refusal of an earlier one is told to a later one.
                    let _ = socket.send_to(b"x", SocketAddr::from((INTERNET, 2000 + port)));
                    if port % 128 == 0 {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
            }
        });
        let held = count() - before;
        assert!((most * 3 / 4..=most + 64).contains(&held), "{held} flows");
        assert!(!reaches(&guest, INTERNET), "there is no place for another");
        let (_network, other) = guest_on(&net).await;
        assert!(reaches(&other, INTERNET), "another guest has its own");
        net.shutdown().await.unwrap();
    });
}

#[test]
fn every_refusal_is_answered_at_once() {
    const TRIES: usize = 430;
    on_a_host(|| async {
        let net = start("refusals", &[]).await;
        let (_network, guest) = guest_on(&net).await;
        for address in [CLOSED[0], CLOSED[4], HOST_PUBLIC, Ipv4Addr::new(192, 168, 241, 1)] {
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
