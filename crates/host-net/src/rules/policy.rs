//! The part of a namespace's table that holds a guest to its policy.
//!
//! Without a policy, the set `unruled` has IPv4, and everything is open that is not closed to all
//! guests. With one it has not, and the other sets decide, which [`crate::guard`] fills.

use std::net::Ipv4Addr;

use hearth_egress_policy::Policy;
use hearth_guest_protocol::message::APP_GUEST;

use super::{HTTP_GATE, INPUT_FLOWS_MAX, TLS_GATE, elements};
use crate::guard::{ALLOWED, LOG_GROUP, REFUSED};

/// Refusals that a namespace logs in a second; more are not counted.
const LOGGED_PER_SECOND: u32 = 1000;

pub(super) fn sets(policy: Option<&Policy>) -> String {
    let unruled = if policy.is_none() { elements(["ipv4"]) } else { String::new() };
    // Of a policy whose sets are not filled yet: what it has let through goes on meanwhile.
    let mark = policy.map_or(0, Policy::fingerprint);
    format!(
        "  set unruled {{
    type nf_proto
    {unruled}
  }}
  set pins {{
    type ipv4_addr . inet_proto . inet_service
  }}
  set tls {{
    type ipv4_addr . inet_service
  }}
  set http {{
    type ipv4_addr . inet_service
  }}
  set services {{
    type ipv4_addr . inet_proto . inet_service; flags interval
  }}
  set open {{
    type ipv4_addr . inet_proto; flags interval
  }}
  set quic {{
    type inet_service
  }}
  set current {{
    type mark
    elements = {{ {mark} }}
  }}
  map generation {{
    type nf_proto : mark
    elements = {{ ipv4 : {mark} }}
  }}"
    )
}

pub(super) fn chains() -> String {
    let guest = Ipv4Addr::from(APP_GUEST);
    format!(
        r#"  chain log_refused {{
    limit rate over {LOGGED_PER_SECOND}/second burst {LOGGED_PER_SECOND} packets return
    log prefix "{REFUSED}" group {LOG_GROUP} snaplen 64
  }}
  chain pass {{
    ct state new log prefix "{ALLOWED}" group {LOG_GROUP} snaplen 64
    ct mark set meta nfproto map @generation
    accept
  }}
  chain by_policy {{
    ip daddr . meta l4proto . th dport @pins goto pass
    udp dport @quic jump refuse
    ip daddr . meta l4proto . th dport @services goto pass
    ip daddr . meta l4proto @open goto pass
    jump refuse
  }}
  chain looked_into {{
    type nat hook prerouting priority dstnat; policy accept
    ip daddr . meta l4proto . th dport @pins accept
    ip daddr . meta l4proto . th dport @services accept
    ip daddr . meta l4proto @open accept
    iifname "app0" ip saddr {guest} ip daddr . tcp dport @tls redirect to :{TLS_GATE}
    iifname "app0" ip saddr {guest} ip daddr . tcp dport @http redirect to :{HTTP_GATE}
  }}
  chain gates {{
    ct state established accept
    ct state new ct count over {INPUT_FLOWS_MAX} jump refuse
    ct state new accept
  }}"#
    )
}
