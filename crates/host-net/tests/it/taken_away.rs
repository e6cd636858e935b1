//! What other programs on the host take away: it is restored, and meanwhile nothing is
//! open that was closed.

use std::net::Ipv4Addr;

use hearth_host_net::{HostNet, HostNetConfig, Network};

use crate::world::{
    CLOSED, Guest, HOST_PUBLIC, INTERNET, PORT, ask, config, eventually, guest_on, inside, ip, on_a_host,
    run, start,
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
        // Without the host's table there is no translation, so that only what the host has
        // itself could answer.
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

/// The kind: each microVM of one server costs a process for every microVM of another.
#[test]
fn guests_are_not_told_of_the_uplinks_of_other_servers() {
    on_a_host(|| async {
        let net = start("one", &[]).await;
        let (network, guest) = guest_on(&net).await;
        let range = "10.99.0.0/24".parse().unwrap();
        let other = HostNet::start(HostNetConfig { address_range: range, ..config("other") }).await.unwrap();
        let (_other_network, other_guest) = guest_on(&other).await;
        ip(&format!("addr add {LATER}/32 dev lo"));
        let known = || inside(&network.namespace(), || run("nft", "list set inet hearth host"));
        eventually("the namespace is told of what is the host's", || known().contains("9.9.9.9"));
        let addresses = ip("-o -4 addr");
        let theirs = addresses.split([' ', '/']).find(|word| word.starts_with("10.99.0.")).unwrap();
        assert!(!known().contains("10.99.0."), "{}", known());
        // They are closed without that, and known where they are not.
        let theirs: Ipv4Addr = theirs.parse().unwrap();
        let opened = start("opened", &["10.99.0.0/24"]).await;
        let (_network, let_in) = guest_on(&opened).await;
        run("nft", "flush ruleset");
        assert!(ask(theirs, PORT).is_ok());
        for guest in [&guest, &other_guest, &let_in] {
            assert!(!reaches(guest, theirs));
        }
        for net in [net, other, opened] {
            net.shutdown().await.unwrap();
        }
    });
}
