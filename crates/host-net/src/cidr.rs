//! IPv4 ranges in CIDR notation (RFC 4632).

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 range; host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ipv4Cidr {
    network: Ipv4Addr,
    prefix_length: u8,
}

/// The text is not `a.b.c.d/n` or has host bits set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv4 range such as 10.1.0.0/16")]
pub struct ParseCidrError(String);

impl Ipv4Cidr {
    /// A range; `None` when the prefix is longer than 32 bits or host bits are set.
    pub const fn new(network: Ipv4Addr, prefix_length: u8) -> Option<Self> {
        if prefix_length > 32 || network.to_bits() & host_mask(prefix_length) != 0 {
            return None;
        }
        Some(Self { network, prefix_length })
    }

    /// Whether the address is inside.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & !host_mask(self.prefix_length) == self.network.to_bits()
    }

    /// How many /31 pairs the range holds.
    pub(crate) fn pair_count(self) -> u32 {
        if self.prefix_length > 31 { 0 } else { 1 << (31 - self.prefix_length).min(31) }
    }

    /// The two addresses of pair `index` (RFC 3021), which must be below [`Self::pair_count`].
    pub(crate) fn pair(self, index: u32) -> (Ipv4Addr, Ipv4Addr) {
        let first = self.network.to_bits() + index * 2;
        (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(first + 1))
    }
}

const fn host_mask(prefix_length: u8) -> u32 {
    if prefix_length == 0 { u32::MAX } else { !(u32::MAX << (32 - prefix_length)) }
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_length)
    }
}

impl FromStr for Ipv4Cidr {
    type Err = ParseCidrError;

    /// A bare address is a range of one.
    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let (network, prefix_length) = text.split_once('/').unwrap_or((text, "32"));
        let parsed = network.parse().ok().zip(prefix_length.parse().ok());
        parsed
            .and_then(|(network, prefix_length)| Self::new(network, prefix_length))
            .ok_or_else(|| ParseCidrError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_strictly_and_printed_alike() {
        for good in ["0.0.0.0/0", "10.0.0.0/8", "198.18.0.0/15", "192.0.2.7/32"] {
            assert_eq!(good.parse::<Ipv4Cidr>().unwrap().to_string(), good);
        }
        assert_eq!("192.0.2.7".parse::<Ipv4Cidr>().unwrap().to_string(), "192.0.2.7/32");
        for bad in ["", "10.0.0.0/33", "10.0.0.1/8", "10.0.0/8", "::/0", "10.0.0.0/", "/8", "10.0.0.0/8/8"] {
            assert!(bad.parse::<Ipv4Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn pairs_fill_the_range() {
        let range: Ipv4Cidr = "198.18.0.0/30".parse().unwrap();
        assert_eq!(range.pair_count(), 2);
        assert_eq!(range.pair(1), (Ipv4Addr::new(198, 18, 0, 2), Ipv4Addr::new(198, 18, 0, 3)));
        assert!(range.contains(range.pair(1).1));
        assert!(!range.contains(Ipv4Addr::new(198, 18, 0, 4)));
    }
}
