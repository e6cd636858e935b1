//! A process of the server's own inside a microVM's namespace: what the server fetches for a tenant
//! leaves by the same way, and under the same rules, as what the tenant's guests send.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use hearth_guest_protocol::message::RESOLVER;

use crate::cidr::Ipv4Cidr;
use crate::error::Result;
use crate::rules::{self, CLOSED_RANGES};

/// Where the DNS relay listens inside a namespace.
pub const RESOLVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(RESOLVER[0], RESOLVER[1], RESOLVER[2], RESOLVER[3]);

/// Whether guests may reach the address: it is outside of the closed ranges, or in one that the
/// operator has allowed.
pub fn is_open_to_guests(address: Ipv4Addr, allowed: &[Ipv4Cidr]) -> bool {
    static CLOSED: LazyLock<Vec<Ipv4Cidr>> =
        LazyLock::new(|| CLOSED_RANGES.split(',').filter_map(|range| range.trim().parse().ok()).collect());
    let is_in = |ranges: &[Ipv4Cidr]| ranges.iter().any(|range| range.contains(address));
    is_in(allowed) || !is_in(&CLOSED)
}

/// Lets processes of this user ask the DNS relay, and open connections to what is open to guests,
/// in the namespace that the calling thread is in. To be called once for a namespace, in which
/// there is no guest. Needs root.
pub fn admit_process(uid: u32) -> Result<()> {
    rules::apply("a namespace that images are fetched in", &additions(uid))
}

/// What is added to the namespace's own table. What guests may reach is decided by its chain
/// `egress`; where that says nothing, nothing is reached.
fn additions(uid: u32) -> String {
    let resolver = RESOLVER_ADDRESS;
    format!(
        r#"
add table inet hearth
add chain inet hearth egress
add chain inet hearth fetch
add chain inet hearth input {{ type filter hook input priority filter; policy drop; }}
add chain inet hearth output {{ type filter hook output priority filter; policy accept; }}
add rule inet hearth fetch oifname "lo" ip daddr {resolver} meta l4proto {{ tcp, udp }} th dport 53 accept
add rule inet hearth fetch oifname "up0" meta nfproto ipv4 meta l4proto tcp jump egress
add rule inet hearth fetch meta l4proto tcp reject with tcp reset
add rule inet hearth fetch reject with icmpx admin-prohibited
insert rule inet hearth output meta skuid {uid} jump fetch
insert rule inet hearth input iifname "up0" ct state established,related accept
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_closed_to_guests_is_closed_to_what_the_server_fetches_for_them() {
        for closed in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!is_open_to_guests(closed.parse().unwrap(), &[]), "{closed}");
        }
        for open in ["1.1.1.1", "9.9.9.9", "172.15.255.255", "172.32.0.1", "100.128.0.1", "198.20.0.1"] {
            assert!(is_open_to_guests(open.parse().unwrap(), &[]), "{open}");
        }
        let allowed = ["10.1.0.0/16".parse().unwrap()];
        assert!(is_open_to_guests("10.1.2.3".parse().unwrap(), &allowed));
        assert!(!is_open_to_guests("10.2.2.3".parse().unwrap(), &allowed));
    }
}
