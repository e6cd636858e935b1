//! The nftables rule sets, and running `nft`.
//!
//! The same ranges are closed twice: in a microVM's namespace, where nothing else on the host
//! has a hand in the rules, and in the host's table, which any firewall manager may flush. Each
//! is enough by itself.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Output, Stdio};

use hearth_egress_policy::Policy;
use hearth_guest_protocol::message::{APP_GATEWAY, APP_GUEST, APP_LOOPBACK, CONTROL_GUEST, RESOLVER};

use crate::cidr::Ipv4Cidr;
use crate::error::{Error, Result};
use crate::host::HostNetConfig;

mod policy;

/// Destinations that are closed to guests unless the operator allows them: "this network", private
/// (RFC 1918), shared (RFC 6598), loopback, link-local with the metadata services of clouds (RFC
/// 3927), benchmarking (RFC 2544, also our own default), multicast and reserved (RFC 1112).
pub(crate) const CLOSED_RANGES: &str = "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, \
                             192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/4, 240.0.0.0/4";

/// Flows that one microVM may have under way. Each has an entry in the host's table of connections,
/// whose size (`nf_conntrack_max`) all share.
pub const FLOWS_MAX: usize = 4096;

/// Name of the table in a namespace.
pub(crate) const TABLE: &str = "hearth";

/// Ports in a namespace where connections are looked into: below those that servers listen on.
pub(crate) const TLS_GATE: u16 = 1022;
pub(crate) const HTTP_GATE: u16 = 1023;

/// Flows towards the namespace itself, which are those of DNS: ports that a guest
/// asks the relay from. As many may be led to what looks into them.
const INPUT_FLOWS_MAX: usize = 1024;

/// What a guest must not reach, and the exceptions.
#[derive(Debug)]
pub(crate) struct Closed<'a> {
    /// Where the addresses of the veths come from: other microVMs, and the host.
    pub(crate) range: Ipv4Cidr,
    /// Ranges that the operator has opened.
    pub(crate) allowed: &'a [Ipv4Cidr],
    /// The host's own addresses.
    pub(crate) host: &'a BTreeSet<Ipv4Addr>,
}

fn elements<T: Display>(of: impl IntoIterator<Item = T>) -> String {
    let listed = of.into_iter().map(|element| element.to_string()).collect::<Vec<_>>().join(", ");
    if listed.is_empty() { String::new() } else { format!("elements = {{ {listed} }}") }
}

/// The sets of the operator's allowed ranges and of those that are closed to guests
/// otherwise, for either table.
fn range_sets(allowed: &[Ipv4Cidr]) -> String {
    let allowed = elements(allowed);
    format!(
        "  set allowed {{
    type ipv4_addr; flags interval; auto-merge
    {allowed}
  }}
  set closed {{
    type ipv4_addr; flags interval
    elements = {{ {CLOSED_RANGES} }}
  }}"
    )
}

/// The host's table. `veth_prefix` is what the names of this instance's veths begin with; `hv*` are
/// the veths of every instance. One table per instance, and no rule that touches packets of others,
/// so instances do not meet.
///
/// Closed destinations are rejected, not dropped: a client in the guest then fails at
/// once instead of waiting.
pub(crate) fn host_table(table: &str, veth_prefix: &str, range: Ipv4Cidr, allowed: &[Ipv4Cidr]) -> String {
    let ranges = range_sets(allowed);
    format!(
        r#"
table inet {table}
delete table inet {table}
table inet {table} {{
{ranges}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }}
  chain input {{
    type filter hook input priority filter; policy accept
    iifname "{veth_prefix}*" drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept
    iifname "{veth_prefix}*" jump egress
    oifname "{veth_prefix}*" ct state established,related accept
    oifname "{veth_prefix}*" reject with icmpx admin-prohibited
  }}
  chain egress {{
    ct state invalid drop
    meta nfproto != ipv4 drop
    oifname "hv*" jump refuse
    ip daddr != @allowed ip daddr @closed jump refuse
    tcp flags & (syn|rst) == syn tcp option maxseg size set rt mtu
    accept
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept
    ip saddr {range} oifname != "hv*" masquerade
  }}
}}
"#
    )
}

/// Removes the host's table.
pub(crate) fn no_host_table(table: &str) -> String {
    format!("table inet {table}\ndelete table inet {table}\n")
}

/// The table inside a microVM's namespace, replaced if it is there. A process other than root's
/// (the VMM, should a guest break out into it) may send nothing.
///
/// Of a flow that its policy ([`policy`]) does not allow any more, what the guest sends is refused,
/// and what it gets is dropped, but for TCP: that ends with the reset of the guest's next packet,
/// and a flow that may go on must not have to wait for one.
///
/// What the server sends to the app's loopback gets the addresses of a connection inside
/// the guest when it leaves, and what answers it gets those of the connection before
/// anything else looks at it.
///
/// A refusal is a TCP reset where it can be: nothing limits how many the kernel sends. For the rest
/// the namespace has no limit of ICMP errors (`namespace`).
pub(crate) fn namespace_table(closed: &Closed<'_>, policy: Option<&Policy>) -> String {
    let (policy_sets, policy_chains) = (policy::sets(policy), policy::chains());
    let guest = Ipv4Addr::from(APP_GUEST);
    let control_guest = Ipv4Addr::from(CONTROL_GUEST);
    let resolver = Ipv4Addr::from(RESOLVER);
    let (gateway, loopback) = (Ipv4Addr::from(APP_GATEWAY), Ipv4Addr::from(APP_LOOPBACK));
    let (ranges, host) = (range_sets(closed.allowed), host_elements(closed.range, closed.host));
    format!(
        r#"
table inet hearth
delete table inet hearth
table inet hearth {{
{ranges}
  set host {{
    type ipv4_addr; flags interval; auto-merge
    elements = {{ {host} }}
  }}
{policy_sets}
  chain refuse {{
    meta nfproto != @unruled jump log_refused
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }}
{policy_chains}
  chain input {{
    type filter hook input priority filter; policy drop
    iifname "lo" accept
    iifname "app0" ct status dnat tcp dport {{ {TLS_GATE}, {HTTP_GATE} }} jump gates
    iifname "app0" ct state new ct count over {INPUT_FLOWS_MAX} drop
    iifname "app0" ip saddr {guest} ip daddr {resolver} udp dport 53 accept
    iifname "app0" ip saddr {guest} ip daddr {resolver} tcp dport 53 accept
    iifname "ctl0" ip saddr {control_guest} ct state established accept
    iifname "up0" ct state established ct direction reply accept
    iifname "app0" ip saddr {loopback} ip daddr {gateway} ct state established ct direction reply accept
    iifname "app0" ip saddr {guest} jump refuse
  }}
  chain to_loopback {{
    type filter hook postrouting priority srcnat + 1; policy accept
    oifname "app0" ip daddr {loopback} ip saddr set 127.0.0.1 ip daddr set 127.0.0.1
  }}
  chain from_loopback {{
    type filter hook prerouting priority raw; policy accept
    iifname "app0" ip saddr 127.0.0.1 ip daddr 127.0.0.1 ip saddr set {loopback} ip daddr set {gateway}
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop
    iifname "up0" oifname "app0" ct state established,related ct mark @current accept
    iifname "up0" oifname "app0" ct state established meta l4proto tcp accept
    iifname "app0" oifname "up0" ip saddr {guest} jump egress
  }}
  chain egress {{
    ct state established ct mark @current accept
    ct state != {{ new, established }} drop
    ip daddr @host jump refuse
    ip daddr != @allowed ip daddr @closed jump refuse
    ct state new ct count over {FLOWS_MAX} jump refuse
    meta nfproto @unruled accept
    goto by_policy
  }}
  chain output {{
    type filter hook output priority filter; policy accept
    meta skuid != 0 drop
    oifname "up0" ip daddr @host jump refuse
    oifname "up0" ip daddr != @allowed ip daddr @closed jump refuse
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept
    oifname "up0" masquerade
  }}
}}
"#
    )
}

/// Makes the table of a microVM in the network namespace of the calling thread, to see whether the
/// kernel has all that it takes.
pub fn try_table() -> Result<()> {
    let closed = Closed { range: HostNetConfig::DEFAULT_ADDRESS_RANGE, allowed: &[], host: &BTreeSet::new() };
    apply("a network namespace", &namespace_table(&closed, None))
}

/// Tells a microVM's namespace the addresses that the host has now.
pub(crate) fn namespace_host(range: Ipv4Cidr, host: &BTreeSet<Ipv4Addr>) -> String {
    let host = host_elements(range, host);
    format!("flush set inet hearth host\nadd element inet hearth host {{ {host} }}\n")
}

fn host_elements(range: Ipv4Cidr, host: &BTreeSet<Ipv4Addr>) -> String {
    let addresses = host.iter().map(ToString::to_string);
    std::iter::once(range.to_string()).chain(addresses).collect::<Vec<_>>().join(", ")
}

/// The program `nft`, from the system's directories: the PATH of users who come by way of
/// sudo need not have sbin.
fn nft() -> Command {
    let mut command = Command::new("nft");
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Runs `nft -f -` in the calling thread's network namespace; the rule set takes effect as a
/// whole or not at all.
pub(crate) fn apply(scope: &'static str, rules: &str) -> Result<()> {
    let mut child = nft()
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::NftNotRun)?;
    let mut stdin = child.stdin.take().expect("invariant: stdin was asked to be a pipe");
    let written = stdin.write_all(rules.as_bytes());
    drop(stdin);
    checked(scope, child.wait_with_output().map_err(Error::NftNotRun)?)?;
    written.map_err(Error::NftNotRun)
}

/// A table of the calling thread's network namespace as `nft` prints it.
pub(crate) fn list(table: &str) -> Result<Vec<u8>> {
    let output = nft()
        .args(["list", "table", "inet", table])
        .stdin(Stdio::null())
        .output()
        .map_err(Error::NftNotRun)?;
    Ok(checked("the host", output)?.stdout)
}

fn checked(scope: &'static str, output: Output) -> Result<Output> {
    if output.status.success() {
        return Ok(output);
    }
    let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::NftRefused { scope, output })
}
