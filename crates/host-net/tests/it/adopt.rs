//! Networks that outlive the server that made them.

use std::net::TcpStream;
use std::os::fd::OwnedFd;

use hearth_guest_protocol::message::RESOLVER;
use hearth_host_net::{Egress, Error, HostNet};

use crate::world::{Guest, HOST_PUBLIC, INTERNET, PORT, ask, config, eventually, ip, on_a_host, run, start};

fn veths() -> usize {
    ip("-o link show type veth").lines().filter(|line| line.contains(": hv")).count()
}

/// A guest whose server stops and leaves it; what a later server finds of its network.
async fn left(instance: &str, egress: Egress) -> (Guest, OwnedFd, Option<String>) {
    let net = start(instance, &[]).await;
    let network = net.acquire(egress).await.unwrap();
    let guest = Guest::on(network.take_taps().unwrap());
    let (namespace, uplink) = (network.namespace().try_clone().unwrap(), network.uplink());
    network.leave();
    net.shutdown().await.unwrap();
    (guest, namespace, uplink)
}

/// Whether something listens where the guest's DNS is.
fn has_dns(guest: &Guest) -> bool {
    guest.run(|| TcpStream::connect((std::net::Ipv4Addr::from(RESOLVER), 53)).is_ok())
}

#[test]
fn a_later_server_takes_a_network_over_and_sweeps_the_others() {
    on_a_host(|| async {
        let (guest, namespace, uplink) = left("heir", Egress::Internet).await;
        let (_foreign, _elsewhere, _) = left("stranger", Egress::Internet).await;
        // Between two servers the guest has its way out, is kept from the host, and has no DNS.
        guest.run(|| ask(INTERNET, PORT)).unwrap();
        guest.run(|| ask(HOST_PUBLIC, PORT)).unwrap_err();
        assert!(!has_dns(&guest));
        // What is left of a network that nobody takes over.
        let lost = format!("{}00001", &uplink.as_deref().unwrap()[..7]);
        ip(&format!("link add {lost} type veth peer name {lost}p"));
        assert_eq!(veths(), 4);

        let net = HostNet::prepare(config("heir")).await.unwrap();
        let network = net.adopt(namespace, uplink.as_deref(), &Egress::Internet).await.unwrap();
        net.sweep().await.unwrap();
        assert_eq!(veths(), 2, "the taken one and the stranger's");
        guest.run(|| ask(INTERNET, PORT)).unwrap();
        assert!(has_dns(&guest));
        assert_eq!(network.uplink(), uplink);
        assert!(network.take_taps().is_none(), "they are the VMM's");
        network.release().await;
        assert_eq!(veths(), 1);
        net.shutdown().await.unwrap();
        let tables = run("nft", "list tables");
        assert!(!tables.contains("hearth_heir") && tables.contains("hearth_stranger"), "{tables}");
    });
}

#[test]
fn a_network_without_a_way_out_stays_without() {
    on_a_host(|| async {
        let (guest, namespace, uplink) = left("closed", Egress::None).await;
        assert_eq!(uplink, None);
        let net = HostNet::prepare(config("closed")).await.unwrap();
        let network = net.adopt(namespace, None, &Egress::None).await.unwrap();
        net.sweep().await.unwrap();
        guest.run(|| ask(INTERNET, PORT)).unwrap_err();
        network.release().await;
        net.shutdown().await.unwrap();
    });
}

#[test]
fn only_an_uplink_of_this_instance_is_taken_over_and_only_once() {
    on_a_host(|| async {
        let (_guest, namespace, uplink) = left("mine", Egress::Internet).await;
        let (_other, _elsewhere, foreign) = left("theirs", Egress::Internet).await;
        let net = HostNet::prepare(config("mine")).await.unwrap();
        let again = || namespace.try_clone().unwrap();
        for wrong in [foreign.as_deref(), Some("hv"), Some("lo")] {
            let error = net.adopt(again(), wrong, &Egress::Internet).await.unwrap_err();
            assert!(matches!(error, Error::NoInterface(_)), "{wrong:?}: {error}");
        }
        let network = net.adopt(again(), uplink.as_deref(), &Egress::Internet).await.unwrap();
        let error = net.adopt(again(), uplink.as_deref(), &Egress::Internet).await.unwrap_err();
        assert!(matches!(error, Error::NoInterface(_)), "{error}");
        drop(network);
        net.shutdown().await.unwrap();
    });
}

#[test]
fn a_server_that_does_not_start_leaves_everything_to_the_next() {
    on_a_host(|| async {
        let (guest, namespace, uplink) = left("unlucky", Egress::Internet).await;
        let net = HostNet::prepare(config("unlucky")).await.unwrap();
        drop(net.adopt(namespace.try_clone().unwrap(), uplink.as_deref(), &Egress::Internet).await.unwrap());
        net.shutdown().await.unwrap();
        guest.run(|| ask(INTERNET, PORT)).unwrap();

        let net = HostNet::prepare(config("unlucky")).await.unwrap();
        let network = net.adopt(namespace, uplink.as_deref(), &Egress::Internet).await.unwrap();
        net.sweep().await.unwrap();
        drop(network);
        eventually("a dropped network is taken down", || veths() == 0);
        net.shutdown().await.unwrap();
    });
}
