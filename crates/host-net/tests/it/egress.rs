//! What a guest reaches and what it does not.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4};

use hearth_guest_protocol::message::{APP_GATEWAY, CONTROL_GUEST, CONTROL_HOST, RESOLVER};
use hearth_host_net::{Egress, Network};

use crate::world::{
    CLOSED, Guest, HOST_PUBLIC, INTERNET, PORT, answer_on, ask, inside, ip, on_a_host, start,
};

/// The address of a network's uplink.
fn uplink_address(network: &Network) -> Ipv4Addr {
    let listing = inside(&network.namespace(), || ip("-o -4 addr show dev up0"));
    let address = listing.split_whitespace().skip_while(|word| *word != "inet").nth(1).unwrap();
    address.split('/').next().unwrap().parse().unwrap()
}

#[test]
fn the_internet_is_open_and_closed_ranges_are_refused_at_once() {
    on_a_host(|| async {
        let net = start("closed", &[]).await;
        let network = net.acquire(Egress::Internet).await.unwrap();
        let guest = Guest::on(network.take_taps().unwrap());
        assert_eq!(guest.run(|| ask(INTERNET, PORT)).unwrap(), HOST_PUBLIC.to_string(), "translated twice");
        for address in CLOSED {
            assert!(ask(address, PORT).is_ok(), "the host itself reaches {address}");
            let error = guest.run(|| ask(address, PORT)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{address}: {error}");
        }
        net.shutdown().await.unwrap();
    });
}

#[test]
fn the_operator_can_open_a_range() {
    on_a_host(|| async {
        let net = start("opened", &["10.1.0.0/16", "10.1.2.0/24", "169.254.169.254/32"]).await;
        let network = net.acquire(Egress::Internet).await.unwrap();
        let guest = Guest::on(network.take_taps().unwrap());
        for (address, open) in CLOSED.into_iter().zip([true, false, false, false, true]) {
            assert_eq!(guest.run(|| ask(address, PORT)).is_ok(), open, "{address}");
        }
        net.shutdown().await.unwrap();
    });
}

#[test]
fn services_of_the_host_are_closed_even_in_an_opened_range() {
    on_a_host(|| async {
        ip("addr add 10.9.9.9/32 dev lo");
        let net = start("services", &["10.0.0.0/8", "198.18.0.0/15", "8.8.8.0/24"]).await;
        let network = net.acquire(Egress::Internet).await.unwrap();
        let guest = Guest::on(network.take_taps().unwrap());
        let uplink = uplink_address(&network);
        inside(&network.namespace(), || answer_on(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT)));
        assert!(guest.run(|| ask(INTERNET, PORT)).is_ok());
        let host_end = Ipv4Addr::from_bits(uplink.to_bits() ^ 1);
        let own = [APP_GATEWAY, CONTROL_HOST, RESOLVER].map(Ipv4Addr::from);
        for address in [HOST_PUBLIC, Ipv4Addr::new(10, 9, 9, 9), host_end, uplink].into_iter().chain(own) {
            assert!(guest.run(|| ask(address, PORT)).is_err(), "{address}");
        }
        net.shutdown().await.unwrap();
    });
}

#[test]
fn another_microvm_is_closed_whichever_server_it_belongs_to() {
    on_a_host(|| async {
        let net = start("one", &["198.18.0.0/15"]).await;
        let neighbour = start("two", &["198.18.0.0/15"]).await;
        let network = net.acquire(Egress::Internet).await.unwrap();
        let guest = Guest::on(network.take_taps().unwrap());
        for other in [&net, &neighbour] {
            let other = other.acquire(Egress::Internet).await.unwrap();
            let error = guest.run(|| ask(uplink_address(&other), PORT)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            assert!(
                ask(uplink_address(&other), PORT).is_err(),
                "the host gets no further than the rules inside"
            );
        }
        neighbour.shutdown().await.unwrap();
        assert!(
            guest.run(|| ask(INTERNET, PORT)).is_ok(),
            "the end of one server does not disturb the other"
        );
        net.shutdown().await.unwrap();
    });
}

#[test]
fn without_egress_nothing_is_reached_but_the_host_reaches_the_guest() {
    on_a_host(|| async {
        let net = start("none", &["0.0.0.0/0"]).await;
        let network = net.acquire(Egress::None).await.unwrap();
        let guest = Guest::on(network.take_taps().unwrap());
        for address in [INTERNET, HOST_PUBLIC, CLOSED[0], Ipv4Addr::from(APP_GATEWAY)] {
            assert!(guest.run(|| ask(address, PORT)).is_err(), "{address}");
        }
        assert!(guest.run(|| ask(Ipv4Addr::from(RESOLVER), 53)).is_err());
        let agent = SocketAddrV4::new(CONTROL_GUEST.into(), PORT);
        guest.run(|| answer_on(agent));
        network.connect(agent).await.unwrap();
        net.shutdown().await.unwrap();
    });
}
