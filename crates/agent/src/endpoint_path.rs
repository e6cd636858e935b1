//! The endpoint's way to the app past the agent: the kernel alone takes a connection that the
//! host makes, from the app's NIC to the app's loopback, where it comes from 127.0.0.1 as those
//! that the agent makes.
//!
//! The host writes 127.0.0.1 into both addresses of its packets. For that the NIC accepts such
//! packets (`route_localnet`, `accept_local`), and what answers them must leave by it again, while
//! everything else that goes to 127.0.0.1 stays on `lo`: a rule of nftables marks what comes in,
//! TCP gives the mark to the connection that the packet opens (`tcp_fwmark_accept`) or to the reset
//! that refuses it (`fwmark_reflect`), and a rule of policy routing sends what bears the mark to
//! the host. Where apps can have NAT of their own, these packets are kept from it. See the kernel's
//! `ip-sysctl` document, and ip-rule(8).
//!
//! A guest without it, or whose app has changed these rules, is still reached through the agent
//! ([`crate::forward`]).

use std::io;
use std::net::Ipv4Addr;

use hearth_guest_protocol::APP_GATEWAY;
use nix::libc;
use nix::sys::socket::SockProtocol;

use crate::netlink::{self, Netlink, attribute, message, text};
use crate::sysctl;

/// What the sockets of such connections are marked with.
pub(crate) const MARK: u32 = 0x4845_4152;
/// The routing table for what bears the mark.
const TABLE: u8 = 72;
/// The rules' places. That of the local table is the kernel's first, at 0, and has
/// to move behind ours.
const MARK_PREFERENCE: u32 = 10;
const LOCAL_PREFERENCE: u32 = 20;

/// Name of our tables.
const NFT_TABLE: &str = "hearth";
/// `NFPROTO_NETDEV` and `NFPROTO_IPV4` of the kernel's `linux/netfilter.h`.
const NETDEV: u8 = 5;
const IPV4: u8 = 2;
/// Hooks: `NF_NETDEV_INGRESS` and, of IPv4, `NF_INET_PRE_ROUTING` and `NF_INET_LOCAL_OUT`.
const INGRESS: u32 = 0;
const PRE_ROUTING: u32 = 0;
const LOCAL_OUT: u32 = 3;
/// `NF_IP_PRI_RAW`: before connection tracking.
const RAW_PRIORITY: i32 = -300;
/// `NFT_REG_1` and the payload base `NFT_PAYLOAD_NETWORK_HEADER`, of `linux/netfilter/nf_tables.h`
/// as all numbers below.
const REGISTER: u32 = 1;
const NETWORK_HEADER: u32 = 1;
/// Offset of the source address in an IPv4 header (RFC 791).
const SOURCE_OFFSET: u32 = 12;
const META_MARK: u32 = 3;
/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;

/// Opens the way, in the app's network namespace, whose NIC is `interface`. Packets are let in
/// last, when the answers are sure to find their way out.
pub(crate) fn open(netlink: &mut Netlink, interface: &str) -> io::Result<()> {
    mark_packets(interface)?;
    leave_untracked()?;
    netlink.add_default_route(TABLE, APP_GATEWAY)?;
    netlink.add_rule(LOCAL_PREFERENCE, None, libc::RT_TABLE_LOCAL)?;
    netlink.delete_rule(0, libc::RT_TABLE_LOCAL)?;
    netlink.add_rule(MARK_PREFERENCE, Some(MARK), TABLE)?;
    sysctl::write("net/ipv4/tcp_fwmark_accept", "1");
    sysctl::write("net/ipv4/fwmark_reflect", "1");
    sysctl::write(&format!("net/ipv4/conf/{interface}/accept_local"), "1");
    sysctl::write(&format!("net/ipv4/conf/{interface}/route_localnet"), "1");
    Ok(())
}

/// Makes the rule: what comes in by this interface and is from 127.0.0.1 gets the mark.
fn mark_packets(interface: &str) -> io::Result<()> {
    let hook = [number(1, INGRESS), number(2, 0), attribute(3, &text(interface))];
    commit(NETDEV, &[("endpoint", hook.concat(), marking().concat())])
}

/// Makes rules by which no NAT of the app's own sees these packets: it would take the answers of a
/// connection that was there before it for a connection of their own, and write another address
/// into them. A kernel without the module for this rule has no connection tracking either.
fn leave_untracked() -> io::Result<()> {
    let chain = |name, hook| {
        let hook = [number(1, hook), number(2, RAW_PRIORITY.cast_unsigned())];
        (name, hook.concat(), untracked().concat())
    };
    match commit(IPV4, &[chain("arriving", PRE_ROUTING), chain("leaving", LOCAL_OUT)]) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Makes our table of a family, with chains of one rule each: name, hook and expressions.
fn commit(family: u8, chains: &[(&str, Vec<u8>, Vec<u8>)]) -> io::Result<()> {
    netlink::exchange(&netlink::open(SockProtocol::NetlinkNetFilter)?, &transaction(family, chains))
}

/// All in one transaction. Only the last message asks for an acknowledgement; what fails before
/// says so by itself.
fn transaction(family: u8, chains: &[(&str, Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    const BATCH_BEGIN: u16 = 16;
    const BATCH_END: u16 = 17;
    const SUBSYSTEM: u16 = 10;
    const NEW_TABLE: u16 = SUBSYSTEM << 8;
    const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
    const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
    // `struct nfgenmsg`.
    let header = |family: u8, resource: u16| [[family, 0], resource.to_be_bytes()].concat();
    let create = libc::NLM_F_REQUEST | libc::NLM_F_CREATE;
    let about = |kind, flags, attributes: &[Vec<u8>]| {
        message(kind, create | flags, &[header(family, 0), attributes.concat()].concat())
    };
    let table = attribute(1, &text(NFT_TABLE));
    let mut messages = message(BATCH_BEGIN, libc::NLM_F_REQUEST, &header(0, SUBSYSTEM));
    messages.extend(about(NEW_TABLE, 0, std::slice::from_ref(&table)));
    for (number, (name, hook, expressions)) in chains.iter().enumerate() {
        let acknowledged = if number + 1 == chains.len() { libc::NLM_F_ACK } else { 0 };
        let chain = [
            table.clone(),
            attribute(3, &text(name)),
            attribute(4 | NESTED, hook),
            attribute(7, &text("filter")),
        ];
        let rule = [table.clone(), attribute(2, &text(name)), attribute(4 | NESTED, expressions)];
        messages.extend(about(NEW_CHAIN, 0, &chain));
        messages.extend(about(NEW_RULE, libc::NLM_F_APPEND | acknowledged, &rule));
    }
    messages.extend(message(BATCH_END, libc::NLM_F_REQUEST, &header(0, SUBSYSTEM)));
    messages
}

/// `ip saddr 127.0.0.1 meta mark set MARK`. Of packets that are no IPv4 these bytes may be
/// anything; only TCP respects the mark.
fn marking() -> [Vec<u8>; 4] {
    let value = [attribute(1, &MARK.to_ne_bytes())];
    let source = [number(1, REGISTER), number(2, NETWORK_HEADER), number(3, SOURCE_OFFSET), number(4, 4)];
    [
        expression("payload", &source),
        equals(&Ipv4Addr::LOCALHOST.octets()),
        expression("immediate", &[number(1, REGISTER), nested(2, &value)]),
        expression("meta", &[number(2, META_MARK), number(3, REGISTER)]),
    ]
}

/// `meta mark MARK notrack`
fn untracked() -> [Vec<u8>; 3] {
    [
        expression("meta", &[number(1, REGISTER), number(2, META_MARK)]),
        equals(&MARK.to_ne_bytes()),
        expression("notrack", &[]),
    ]
}

fn equals(value: &[u8]) -> Vec<u8> {
    // Operator 0: equal.
    expression("cmp", &[number(1, REGISTER), number(2, 0), nested(3, &[attribute(1, value)])])
}

fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[attribute(1, &text(name)), nested(2, data)])
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn nested(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &attributes.concat())
}
