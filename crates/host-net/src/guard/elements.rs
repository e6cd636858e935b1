//! What a policy and its pins are in the sets of the namespace's table.

use std::net::Ipv4Addr;

use hearth_egress_policy::rule::QUIC;
use hearth_egress_policy::{OpenRange, Policy, Protocol, Way};

use super::{Pin, TCP, UDP};
use crate::netfilter::sets::Element;

/// IPv4, as netfilter numbers families (`linux/netfilter.h`).
const NFPROTO_IPV4: u8 = 2;

/// The sets that say what a policy opens by address, and what it lets through.
pub(super) fn of_policy(policy: &Policy) -> [(&'static str, Vec<Element>); 5] {
    let (open, services): (Vec<_>, Vec<_>) =
        policy.ranges().iter().partition(|range| range.protocol == Protocol::Any);
    let quic = policy.has_domains().then(|| Element::key(port_key(QUIC)));
    let mark = policy.fingerprint().to_ne_bytes().to_vec();
    [
        ("open", open.into_iter().map(whole).collect()),
        ("services", services.into_iter().map(service).collect()),
        ("quic", quic.into_iter().collect()),
        ("current", vec![Element::key(mark.clone())]),
        ("generation", vec![Element { data: Some(mark), ..Element::key(vec![NFPROTO_IPV4]) }]),
    ]
}

/// A range for every protocol, as the type `ipv4_addr . inet_proto` has it.
fn whole(range: &OpenRange) -> Element {
    let key = |address: &Ipv4Addr, protocol: u8| [address.octets(), [protocol, 0, 0, 0]].concat();
    let (first, last) = (range.addresses.start(), range.addresses.end());
    Element { end: Some(key(last, u8::MAX)), ..Element::key(key(first, 0)) }
}

/// A range for one protocol and some ports.
fn service(range: &OpenRange) -> Element {
    let key = |address: &Ipv4Addr, port: u16| service_key(*address, range.protocol, port);
    let (first, last) = (range.addresses.start(), range.addresses.end());
    Element { end: Some(key(last, *range.ports.end())), ..Element::key(key(first, *range.ports.start())) }
}

/// The sets that pins are in, and what they are there.
pub(super) fn of_pins(pins: &[Pin]) -> [(&'static str, Vec<Element>); 3] {
    let of = |ways: &[Way], key: &dyn Fn(&Pin) -> Vec<u8>| {
        pins.iter().filter(|pin| ways.contains(&pin.way)).map(|pin| Element::key(key(pin))).collect()
    };
    let flow = |pin: &Pin| {
        let protocol = if pin.way == Way::Udp { Protocol::Udp } else { Protocol::Tcp };
        service_key(pin.address, protocol, pin.port)
    };
    // Of the type `ipv4_addr . inet_service`.
    let looked_into = |pin: &Pin| [&pin.address.octets()[..], &port_key(pin.port), &[0, 0]].concat();
    [
        ("pins", of(&[Way::Tcp, Way::Udp], &flow)),
        ("tls", of(&[Way::Tls], &looked_into)),
        ("http", of(&[Way::Http], &looked_into)),
    ]
}

/// A key of the type `ipv4_addr . inet_proto . inet_service`.
fn service_key(address: Ipv4Addr, protocol: Protocol, port: u16) -> Vec<u8> {
    let protocol = if protocol == Protocol::Udp { UDP } else { TCP };
    [&address.octets()[..], &[protocol, 0, 0, 0], &port_key(port), &[0, 0]].concat()
}

fn port_key(port: u16) -> Vec<u8> {
    port.to_be_bytes().to_vec()
}
