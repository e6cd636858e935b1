//! The network of a microVM on the host: a network namespace with TAP devices, a veth to the host,
//! nftables rules and a DNS relay.
//!
//! Every microVM has its own namespace, so that clones of one snapshot can all use the same
//! addresses and MACs. Namespaces have no name: they live as long as a descriptor or the VMM
//! process inside. So a crash leaves only those of VMMs that still run, and a later server finds
//! them by that process.
//!
//! ```text
//!  guest NIC "app"  ── app0 ┐                          ┌ hv… ── host's routes, nftables table
//!  guest NIC "ctl"  ── ctl0 ┤ namespace, nftables, NAT ├ up0    `hearth_<instance>`
//!        DNS relay (sockets)┘                          ┘
//! ```
//!
//! Invariants: a guest reaches the internet and the relay, and nothing of the host, of other
//! microVMs or of private ranges that the operator did not allow
//! ([`HostNetConfig::allow_egress_to`]); only the host opens connections on the control network. A
//! namespace's own rules close it, whatever becomes of the host's; rules that another program on
//! the host removes are restored within a second. Starting turns `net.ipv4.ip_forward` on and
//! leaves it on.
//!
//! Reading order: `host` (the pool), `uplinks` (one network's life), `namespace` (how one is made),
//! `rules`, `watch`, `dns`, `guard` (policies).

mod bell;
mod cidr;
mod dns;
mod error;
mod guard;
mod host;
mod links;
mod namespace;
mod netfilter;
mod network;
mod process;
mod rules;
mod sockets;
mod tap;
mod uplinks;
mod watch;

pub use cidr::{Ipv4Cidr, ParseCidrError};
pub use error::{Error, Result};
pub use guard::{Attempt, Decision, Decisions, Guard, Kind};
pub use host::{HostNet, HostNetConfig};
pub use network::{Connector, Egress, Held, Network, Taps};
pub use process::{RESOLVER_ADDRESS, admit_process, is_open_to_guests};
pub use rules::{FLOWS_MAX, try_table};
