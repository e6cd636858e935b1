//! Which addresses may be connected to.

use std::net::Ipv4Addr;

use hearth_host_net::{Ipv4Cidr, is_open_to_guests};

/// The private ranges that guests may reach besides the internet. The namespace's rules refuse the
/// others as well; this check holds where those rules were taken away.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reach(Vec<Ipv4Cidr>);

impl Reach {
    /// Reads ranges in CIDR notation; `None` if one is none.
    pub(crate) fn parse(ranges: &[String]) -> Option<Self> {
        ranges.iter().map(|range| range.parse().ok()).collect::<Option<_>>().map(Self)
    }

    /// Whether a connection to the address may be opened.
    pub(crate) fn allows(&self, address: Ipv4Addr) -> bool {
        is_open_to_guests(address, &self.0)
    }
}
