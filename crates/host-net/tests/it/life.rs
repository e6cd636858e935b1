//! How networks come, are used by the host and go.

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hearth_guest_protocol::message::{AGENT_PORT, APP_GATEWAY, APP_LOOPBACK, CONTROL_GUEST, CONTROL_HOST};
use hearth_host_net::{Egress, Error, HostNet, HostNetConfig};
use tokio::io::AsyncReadExt as _;

use crate::world::{Guest, answer_on, ask, config, eventually, inside, ip, on_a_host, run, start};

fn veths() -> usize {
    ip("-o link show type veth").lines().filter(|line| line.contains(": hv")).count()
}

fn tables() -> String {
    run("nft", "list tables")
}

#[test]
fn the_host_connects_to_the_agent_and_the_agent_not_to_the_host() {
    on_a_host(|| async {
        let net = start("connect", &[]).await;
        let network = net.acquire(Egress::Internet).await.unwrap();
        let guest = Guest::on(network.take_taps().unwrap());
        assert!(network.take_taps().is_none());
        let connector = network.connector();
        let started = Instant::now();
        let refused = connector.connect_agent().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert!(started.elapsed() < Duration::from_secs(1), "refused at once");
        let agent = SocketAddrV4::new(CONTROL_GUEST.into(), AGENT_PORT);
        guest.run(|| answer_on(agent));
        let mut seen_as = String::new();
        connector.connect_agent().await.unwrap().read_to_string(&mut seen_as).await.unwrap();
        assert_eq!(seen_as, Ipv4Addr::from(CONTROL_HOST).to_string());
        let rounds = 200;
        let started = Instant::now();
        for _ in 0..rounds {
            network.connect(agent).await.unwrap();
        }
        eprintln!("connect: {:?} each", started.elapsed() / rounds);
        inside(&network.namespace(), || answer_on(SocketAddrV4::new(CONTROL_HOST.into(), 7)));
        assert!(guest.run(|| ask(CONTROL_HOST.into(), 7)).is_err(), "nothing may be opened towards the host");
        network.release().await;
        assert_eq!(connector.connect_agent().await.unwrap_err().kind(), ErrorKind::NotConnected);
        net.shutdown().await.unwrap();
    });
}

#[test]
fn the_host_reaches_the_guests_loopback_as_if_from_inside() {
    on_a_host(|| async {
        let net = start("loopback", &[]).await;
        let network = net.acquire(Egress::Internet).await.unwrap();
        let guest = Guest::on(network.take_taps().unwrap());
        let connector = network.connector();
        guest.run(|| answer_on(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080)));
        // A guest that has not opened the way.
        let silent = connector.connect_app(8080, Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(silent.kind(), ErrorKind::TimedOut);
        guest.open_loopback();
        let mut seen_as = String::new();
        let limit = Duration::from_secs(5);
        let mut stream = connector.connect_app(8080, limit).await.unwrap();
        let port = stream.local_addr().unwrap().port();
        assert!((1024..32768).contains(&port), "{port} may be one that the guest picks for itself");
        stream.read_to_string(&mut seen_as).await.unwrap();
        assert_eq!(seen_as, "127.0.0.1");
        let started = Instant::now();
        let refused = connector.connect_app(8081, limit).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert!(started.elapsed() < Duration::from_secs(1), "refused at once");
        assert_eq!(
            guest.run(|| ask(Ipv4Addr::LOCALHOST, 8080)).unwrap(),
            "127.0.0.1",
            "what is inside stays there"
        );
        // The way leads in only.
        let gateway = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 7);
        inside(&network.namespace(), || answer_on(gateway));
        for address in [APP_GATEWAY, APP_LOOPBACK] {
            assert!(guest.run(|| ask(address.into(), 7)).is_err(), "nothing may be opened towards the host");
        }
        network.release().await;
        net.shutdown().await.unwrap();
    });
}

#[test]
fn a_guest_that_does_not_answer_is_given_up() {
    on_a_host(|| async {
        let net = start("silent", &[]).await;
        let network = net.acquire(Egress::None).await.unwrap();
        let error = network.connector().connect_agent().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        net.shutdown().await.unwrap();
    });
}

#[test]
fn the_pool_hands_out_at_once_and_is_filled_up_again() {
    on_a_host(|| async {
        let net = HostNet::start(HostNetConfig { pool_size: 3, ..config("pool") }).await.unwrap();
        for round in 0..2 {
            eventually("the pool is full", || veths() == 3);
            let started = Instant::now();
            let network = net.acquire(Egress::Internet).await.unwrap();
            eprintln!("acquire from the pool, round {round}: {:?}", started.elapsed());
            assert_eq!(veths(), 3, "taken, not made");
            eventually("the pool is filled up", || veths() == 4);
            let started = Instant::now();
            network.release().await;
            eprintln!("release: {:?}", started.elapsed());
            assert_eq!(veths(), 3);
        }
        net.shutdown().await.unwrap();
    });
}

#[test]
fn many_at_once_get_addresses_of_their_own_until_the_range_is_used_up() {
    on_a_host(|| async {
        let address_range = "198.18.4.0/28".parse().unwrap();
        ip("addr add 198.18.4.5/32 dev lo");
        let net = HostNet::start(HostNetConfig { address_range, ..config("many") }).await.unwrap();
        let started = Instant::now();
        let mut networks = Vec::new();
        for _ in 0..7 {
            networks.push(net.acquire(Egress::Internet).await.unwrap());
        }
        eprintln!("make: {:?} each", started.elapsed() / 7);
        let full = net.acquire(Egress::Internet).await.unwrap_err();
        assert!(matches!(full, Error::RangeExhausted(range) if range == address_range), "{full}");
        assert!(
            !ip("-o -4 addr show").contains("198.18.4.4/"),
            "a pair with an address of the host is left out"
        );
        networks.pop().unwrap().release().await;
        networks.push(net.acquire(Egress::Internet).await.unwrap());
        drop(networks);
        eventually("dropped networks are taken down", || veths() == 0);
        net.shutdown().await.unwrap();
    });
}

#[test]
fn nothing_is_left_after_shutdown() {
    on_a_host(|| async {
        let before = (tables(), ip("-o link show"));
        let net = HostNet::start(HostNetConfig { pool_size: 2, ..config("left") }).await.unwrap();
        assert!(tables().contains("hearth_left"));
        let held = net.acquire(Egress::Internet).await.unwrap();
        net.shutdown().await.unwrap();
        assert_eq!((tables(), veths()), (before.0, 0));
        assert!(matches!(net.acquire(Egress::Internet).await, Err(Error::ShutDown)));
        drop(held);
        assert_eq!(ip("-o link show"), before.1);
    });
}

#[test]
fn after_a_kill_only_the_table_is_left_and_the_next_server_replaces_it() {
    const CHILD: &str = "HEARTH_TEST_KILLED_SERVER";
    if std::env::var_os(CHILD).is_some() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let net = start("killed", &["10.0.0.0/8"]).await;
            let _network = net.acquire(Egress::Internet).await.unwrap();
            println!("\nready");
            std::future::pending::<()>().await;
        });
    }
    on_a_host(|| async {
        let name = "life::after_a_kill_only_the_table_is_left_and_the_next_server_replaces_it";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "ready"));
        assert_eq!(veths(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("the namespace went with its process", || veths() == 0);
        assert!(
            run("nft", "list table inet hearth_killed").contains("10.0.0.0/8 }"),
            "the table outlives it"
        );
        let net = start("killed", &["10.7.0.0/16"]).await;
        let table = run("nft", "list table inet hearth_killed");
        assert!(table.contains("{ 10.7.0.0/16 }") && table.matches("chain egress").count() == 1, "{table}");
        net.shutdown().await.unwrap();
        assert_eq!(tables(), "");
    });
}

#[test]
fn a_name_that_nftables_would_misread_is_refused() {
    on_a_host(|| async {
        for bad in ["", "a b", "a-b", "x}", "Ä"] {
            assert!(matches!(HostNet::start(config(bad)).await, Err(Error::InvalidInstance(_))), "{bad}");
        }
    });
}
