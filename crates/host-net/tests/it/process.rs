//! A process of the server's in a microVM's namespace.
#![allow(unsafe_code)]

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use hearth_guest_protocol::message::{APP_GATEWAY, CONTROL_HOST};
use hearth_host_net::{Egress, Network, admit_process};
use nix::libc;

use crate::world::{CLOSED, HOST_PUBLIC, INTERNET, PORT, ask, inside, on_a_host, start};

const UID: u32 = 0x4fff_0002;

/// Asks from inside the namespace as this user.
fn ask_as(network: &Network, uid: u32, address: Ipv4Addr) -> std::io::Result<String> {
    inside(&network.namespace(), || {
        // SAFETY: a system call without memory. Made directly, it changes this
        // thread alone, which ends.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
        assert_eq!(changed, 0);
        ask(address, PORT)
    })
}

#[test]
fn a_process_that_was_let_in_reaches_what_a_guest_reaches_and_no_more() {
    on_a_host(|| async {
        let net = start("process", &["10.1.0.0/16"]).await;
        let network = net.acquire(Egress::Internet).await.unwrap();
        assert!(ask_as(&network, UID, INTERNET).is_err(), "before it was let in");
        inside(&network.namespace(), || admit_process(UID).unwrap());
        assert_eq!(ask_as(&network, UID, INTERNET).unwrap(), HOST_PUBLIC.to_string(), "translated");
        assert!(ask_as(&network, UID, CLOSED[0]).is_ok(), "the operator has opened it");
        let own = [HOST_PUBLIC, APP_GATEWAY.into(), CONTROL_HOST.into(), Ipv4Addr::LOCALHOST];
        for address in CLOSED[1..].iter().copied().chain(own) {
            let error = ask_as(&network, UID, address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{address}: {error}");
        }
        assert!(ask_as(&network, UID + 1, INTERNET).is_err(), "nobody else was let in");
        net.shutdown().await.unwrap();
    });
}
