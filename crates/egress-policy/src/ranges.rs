//! Ranges of rules as a packet filter takes them: none overlaps another one.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;

use crate::rule::{Destination, Protocol, Rule};

/// Addresses that may be reached by a protocol at some ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRange {
    /// From and to.
    pub addresses: RangeInclusive<Ipv4Addr>,
    /// By what; of [`Protocol::Any`] the ports are all.
    pub protocol: Protocol,
    /// Where.
    pub ports: RangeInclusive<u16>,
}

/// What the rules about ranges open, in pieces that do not overlap as long as they are of one
/// protocol.
pub(crate) fn open_ranges(rules: &[Rule]) -> Vec<OpenRange> {
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Any];
    protocols.into_iter().flat_map(|protocol| of_protocol(rules, protocol)).collect()
}

fn of_protocol(rules: &[Rule], protocol: Protocol) -> Vec<OpenRange> {
    let ranges: Vec<(Ipv4Net, &RangeInclusive<u16>)> = rules
        .iter()
        .filter(|rule| rule.protocol == protocol)
        .filter_map(|rule| match rule.destination {
            Destination::Range(range) => Some(rule.ports.ranges().iter().map(move |ports| (range, ports))),
            Destination::Domain(_) => None,
        })
        .flatten()
        .collect();
    let mut pieces: Vec<(RangeInclusive<u16>, Vec<RangeInclusive<u32>>)> = Vec::new();
    for ports in elementary(ranges.iter().map(|(_, ports)| *ports)) {
        let here = ranges.iter().filter(|(_, own)| own.contains(ports.start())).map(|(range, _)| *range);
        let addresses = merged(here);
        match pieces.last_mut() {
            // Ports in a row that have the same addresses are one piece again.
            Some((last, of_last))
                if *of_last == addresses && u32::from(*last.end()) + 1 == u32::from(*ports.start()) =>
            {
                *last = *last.start()..=*ports.end();
            }
            _ => pieces.push((ports, addresses)),
        }
    }
    let open = |ports: &RangeInclusive<u16>, addresses: &RangeInclusive<u32>| OpenRange {
        addresses: Ipv4Addr::from_bits(*addresses.start())..=Ipv4Addr::from_bits(*addresses.end()),
        protocol,
        ports: ports.clone(),
    };
    pieces.iter().flat_map(|(ports, addresses)| addresses.iter().map(|it| open(ports, it))).collect()
}

/// Cuts ranges of ports so that each of them is made of whole pieces.
fn elementary<'a>(ranges: impl Iterator<Item = &'a RangeInclusive<u16>>) -> Vec<RangeInclusive<u16>> {
    let (mut starts, mut covered) = (BTreeSet::new(), Vec::new());
    for range in ranges {
        starts.extend([u32::from(*range.start()), u32::from(*range.end()) + 1]);
        covered.push(range);
    }
    let starts: Vec<u32> = starts.into_iter().collect();
    let pieces = starts.windows(2).filter_map(|piece| {
        let (from, to) = (u16::try_from(piece[0]).ok()?, u16::try_from(piece[1] - 1).ok()?);
        covered.iter().any(|range| range.contains(&from)).then_some(from..=to)
    });
    pieces.collect()
}

/// Ranges of addresses in rising order, those that touch as one.
fn merged(ranges: impl Iterator<Item = Ipv4Net>) -> Vec<RangeInclusive<u32>> {
    let mut ranges: Vec<_> =
        ranges.map(|range| range.network().to_bits()..=range.broadcast().to_bits()).collect();
    ranges.sort_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<u32>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if u64::from(*range.start()) <= u64::from(*last.end()) + 1 => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rule::RuleText;

    fn rules(texts: &[(&str, &str, &str)]) -> Vec<Rule> {
        let rule = |(cidr, protocol, ports): &(&str, &str, &str)| {
            let text = RuleText {
                cidr: Some((*cidr).to_owned()),
                protocol: (!protocol.is_empty()).then(|| (*protocol).to_owned()),
                ports: ports.split_whitespace().map(str::to_owned).collect(),
                domain: None,
            };
            Rule::parse(&text).unwrap()
        };
        texts.iter().map(rule).collect()
    }

    fn told(rules: &[Rule]) -> Vec<String> {
        let tell = |open: OpenRange| {
            let (addresses, ports) = (open.addresses, open.ports);
            format!(
                "{} {}-{} {}-{}",
                open.protocol,
                addresses.start(),
                addresses.end(),
                ports.start(),
                ports.end()
            )
        };
        open_ranges(rules).into_iter().map(tell).collect()
    }

    #[test]
    fn rules_that_overlap_become_pieces_that_do_not() {
        let rules = rules(&[
            ("10.0.0.0/8", "tcp", "443"),
            ("10.1.0.0/16", "tcp", "400-500"),
            ("11.0.0.0/8", "tcp", "443"),
            ("192.0.2.0/24", "", ""),
            ("192.0.3.0/24", "", ""),
        ]);
        let expected = [
            "tcp 10.1.0.0-10.1.255.255 400-442",
            "tcp 10.0.0.0-11.255.255.255 443-443",
            "tcp 10.1.0.0-10.1.255.255 444-500",
            "any 192.0.2.0-192.0.3.255 0-65535",
        ];
        assert_eq!(told(&rules), expected);
    }

    #[test]
    fn ports_in_a_row_with_the_same_addresses_are_one_piece() {
        let rules =
            rules(&[("0.0.0.0/0", "udp", "53"), ("0.0.0.0/0", "udp", "54-60"), ("0.0.0.0/0", "udp", "70")]);
        assert_eq!(told(&rules), ["udp 0.0.0.0-255.255.255.255 53-60", "udp 0.0.0.0-255.255.255.255 70-70"]);
    }

    proptest! {
        #[test]
        fn what_is_open_is_what_a_rule_allows(
            ranges in prop::collection::vec((any::<u8>(), 24u8..=32, 1u16..40, 0u16..10), 0..12),
            address in any::<u8>(),
            port in 1u16..60,
        ) {
            let rules: Vec<Rule> = ranges
                .iter()
                .map(|(last, prefix, from, count)| Rule {
                    destination: Destination::Range(
                        Ipv4Net::new(Ipv4Addr::new(192, 0, 2, *last), *prefix).unwrap().trunc(),
                    ),
                    ..rules(&[("192.0.2.0", "tcp", &format!("{from}-{}", from + count))]).remove(0)
                })
                .collect();
            let address = Ipv4Addr::new(192, 0, 2, address);
            let is_open = open_ranges(&rules)
                .iter()
                .filter(|open| open.addresses.contains(&address) && open.ports.contains(&port))
                .count();
            let allowed = rules.iter().any(|rule| {
                matches!(rule.destination, Destination::Range(range) if range.contains(&address))
                    && rule.is_about(Protocol::Tcp, port)
            });
            prop_assert_eq!(is_open, usize::from(allowed));
        }
    }
}
