//! The nftables rule sets, and running `nft`.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use hearth_guest_protocol::message::{APP_GATEWAY, APP_GUEST, APP_LOOPBACK, CONTROL_GUEST, RESOLVER};

use crate::cidr::Ipv4Cidr;
use crate::error::{Error, Result};

/// Destinations that are closed to guests unless the operator allows them: "this network", private (RFC 1918),
/// shared (RFC 6598), loopback, link-local with the metadata services of clouds (RFC 3927), benchmarking (RFC 2544,
/// also our own default), multicast and reserved (RFC 1112).
const CLOSED_RANGES: &str = "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, \
                             192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/4, 240.0.0.0/4";

/// The host's table. `veth_prefix` is what the names of this instance's veths begin with; `hv*` are the veths of
/// every instance. One table per instance, and no rule that touches packets of others, so instances do not meet.
///
/// Closed destinations are rejected, not dropped: a client in the guest then fails at once instead of waiting.
pub(crate) fn host_table(table: &str, veth_prefix: &str, range: Ipv4Cidr, allowed: &[Ipv4Cidr]) -> String {
    let allowed = allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let allowed = if allowed.is_empty() { String::new() } else { format!("elements = {{ {allowed} }}") };
    format!(
        r#"
table inet {table}
delete table inet {table}
table inet {table} {{
  set allowed {{
    type ipv4_addr; flags interval; auto-merge
    {allowed}
  }}
  set closed {{
    type ipv4_addr; flags interval
    elements = {{ {CLOSED_RANGES} }}
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
    oifname "hv*" reject with icmpx admin-prohibited
    ip daddr != @allowed ip daddr @closed reject with icmpx admin-prohibited
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

/// The table inside a microVM's namespace. A process other than root's (the VMM, should a guest break out into it)
/// may send nothing.
///
/// What the server sends to the app's loopback gets the addresses of a connection inside the guest when it leaves, and what
/// answers it gets those of the connection before anything else looks at it.
pub(crate) fn namespace_table() -> String {
    let guest = Ipv4Addr::from(APP_GUEST);
    let control_guest = Ipv4Addr::from(CONTROL_GUEST);
    let resolver = Ipv4Addr::from(RESOLVER);
    let (gateway, loopback) = (Ipv4Addr::from(APP_GATEWAY), Ipv4Addr::from(APP_LOOPBACK));
    format!(
        r#"
table inet hearth {{
  chain input {{
    type filter hook input priority filter; policy drop
    iifname "lo" accept
    iifname "app0" ip saddr {guest} ip daddr {resolver} udp dport 53 accept
    iifname "app0" ip saddr {guest} ip daddr {resolver} tcp dport 53 accept
    iifname "ctl0" ip saddr {control_guest} ct state established accept
    iifname "app0" ip saddr {loopback} ip daddr {gateway} ct state established ct direction reply accept
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
    iifname "app0" oifname "up0" ip saddr {guest} ct state new,established accept
    iifname "up0" oifname "app0" ct state established,related accept
  }}
  chain output {{
    type filter hook output priority filter; policy accept
    meta skuid != 0 drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept
    oifname "up0" masquerade
  }}
}}
"#
    )
}

/// The program `nft`, from the system's directories: the PATH of users who come by way of sudo need not have sbin.
pub fn nft() -> Command {
    let mut command = Command::new("nft");
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Runs `nft -f -` in the calling thread's network namespace; the rule set takes effect as a whole or not at all.
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
    let output = child.wait_with_output().map_err(Error::NftNotRun)?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::NftRefused { scope, output });
    }
    written.map_err(Error::NftNotRun)
}
