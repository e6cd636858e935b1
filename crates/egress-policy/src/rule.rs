//! One rule, as people write it and as it is meant.

use std::fmt;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::domain::{Domain, InvalidDomain};

/// Ports and ranges of ports of a rule at most.
pub const PORTS_MAX: usize = 16;
/// Ports of a domain at most: each is an entry of its own for every address of its names.
pub const PORTS_OF_DOMAIN_MAX: usize = 64;
/// Where HTTP is, without TLS and over it: the ports of a domain whose rule names none.
const HTTP: u16 = 80;
const HTTPS: u16 = 443;
/// Where HTTP/3 is (RFC 9114), whose packets hide the name that is asked for.
pub const QUIC: u16 = 443;

/// A rule as it is written, in JSON. Either `domain` or `cidr`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleText {
    /// `example.com` or `*.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// `192.0.2.0/24` or `192.0.2.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// `tcp` or `udp`; for a domain `tcp` if there is none, for a range every protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Ports, as `443` and `8000-8100`; 80 and 443 of a domain if there are none, all of a range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whom it lets reach.
    pub destination: Destination,
    /// By what.
    pub protocol: Protocol,
    /// Where.
    pub ports: Ports,
    /// Whether TLS and HTTP at their ports are looked into: not where a domain's protocol was said
    /// to be TCP.
    pub looked_into: bool,
}

/// How a name is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// By flows of TCP, whatever is in them.
    Tcp,
    /// By flows of UDP.
    Udp,
    /// By HTTP requests whose host is this one.
    Http,
    /// By connections whose TLS server name is this one.
    Tls,
}

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Hosts by their name.
    Domain(Domain),
    /// Hosts by their address.
    Range(Ipv4Net),
}

/// Protocols over IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Every one.
    Any,
}

/// Ports, in rising order and without overlaps; those of [`Protocol::Any`] are all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports(Vec<RangeInclusive<u16>>);

/// Why a rule is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// Neither domain nor range, or both.
    #[error("a rule has either a domain or a cidr")]
    Destination,
    /// Not a domain.
    #[error(transparent)]
    Domain(#[from] InvalidDomain),
    /// Not a range.
    #[error("{0:?} is not an IPv4 range such as 192.0.2.0/24")]
    Range(String),
    /// A range with bits behind its prefix.
    #[error("{0} has bits set behind its prefix; {1} may be meant")]
    HostBits(String, Ipv4Net),
    /// Not a protocol.
    #[error("{0:?} is not a protocol; tcp and udp are")]
    Protocol(String),
    /// Not a port.
    #[error("{0:?} is not a port from 1 to 65535 or a range of them such as 8000-8100")]
    Port(String),
    /// Too many of them.
    #[error("a rule has at most {PORTS_MAX} ports and ranges of ports")]
    TooManyPorts,
    /// Too many for a domain.
    #[error("a rule about a domain has at most {PORTS_OF_DOMAIN_MAX} ports, ranges counted by their ports")]
    TooManyPortsOfDomain,
    /// Ports without a protocol that has some.
    #[error("ports of a cidr need the protocol tcp or udp")]
    PortsOfAny,
    /// A domain for which nobody knows what is allowed.
    #[error("a domain over udp needs its ports")]
    UdpOfDomain,
    /// QUIC hides names.
    #[error("UDP port {QUIC} of a domain cannot be allowed: QUIC hides which name is asked for")]
    Quic,
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence without a full stop.
    pub fn parse(text: &RuleText) -> Result<Self, InvalidRule> {
        let destination = match (&text.domain, &text.cidr) {
            (Some(domain), None) => Destination::Domain(Domain::parse(domain)?),
            (None, Some(cidr)) => Destination::Range(range(cidr)?),
            _ => return Err(InvalidRule::Destination),
        };
        let by_name = matches!(destination, Destination::Domain(_));
        let protocol = match text.protocol.as_deref().map(str::to_ascii_lowercase).as_deref() {
            Some("tcp") => Protocol::Tcp,
            Some("udp") => Protocol::Udp,
            None if by_name => Protocol::Tcp,
            None => Protocol::Any,
            Some(_) => return Err(InvalidRule::Protocol(text.protocol.clone().unwrap_or_default())),
        };
        let ports = Ports::parse(&text.ports)?;
        let ports = match (ports, protocol) {
            (Some(_), Protocol::Any) => return Err(InvalidRule::PortsOfAny),
            (Some(ports), _) => ports,
            (None, Protocol::Udp) if by_name => return Err(InvalidRule::UdpOfDomain),
            (None, _) if by_name => Ports([HTTP, HTTPS].map(|port| port..=port).to_vec()),
            (None, _) => Ports(vec![0..=u16::MAX]),
        };
        if by_name && ports.0.iter().map(ExactSizeIterator::len).sum::<usize>() > PORTS_OF_DOMAIN_MAX {
            return Err(InvalidRule::TooManyPortsOfDomain);
        }
        if by_name && protocol == Protocol::Udp && ports.contains(QUIC) {
            return Err(InvalidRule::Quic);
        }
        let looked_into = by_name && text.protocol.is_none();
        Ok(Self { destination, protocol, ports, looked_into })
    }

    /// How it lets a domain be reached at one of its ports.
    pub fn way(&self, port: u16) -> Way {
        match (self.protocol, port) {
            (Protocol::Udp, _) => Way::Udp,
            (_, HTTP) if self.looked_into => Way::Http,
            (_, HTTPS) if self.looked_into => Way::Tls,
            _ => Way::Tcp,
        }
    }

    /// Whether it is about this protocol and port.
    pub fn is_about(&self, protocol: Protocol, port: u16) -> bool {
        (self.protocol == Protocol::Any || self.protocol == protocol) && self.ports.contains(port)
    }
}

fn range(text: &str) -> Result<Ipv4Net, InvalidRule> {
    let invalid = || InvalidRule::Range(text.to_owned());
    let range: Ipv4Net = match text.parse() {
        Ok(range) => range,
        Err(_) => Ipv4Net::from(text.parse::<std::net::Ipv4Addr>().map_err(|_| invalid())?),
    };
    if range != range.trunc() {
        return Err(InvalidRule::HostBits(text.to_owned(), range.trunc()));
    }
    Ok(range)
}

impl Ports {
    /// `None` if there are none.
    fn parse(texts: &[String]) -> Result<Option<Self>, InvalidRule> {
        if texts.len() > PORTS_MAX {
            return Err(InvalidRule::TooManyPorts);
        }
        let mut ports: Vec<_> = texts.iter().map(|text| ports(text)).collect::<Result<_, _>>()?;
        ports.sort_by_key(|range| *range.start());
        let mut merged: Vec<RangeInclusive<u16>> = Vec::new();
        for range in ports {
            match merged.last_mut() {
                Some(last) if u32::from(*range.start()) <= u32::from(*last.end()) + 1 => {
                    *last = *last.start()..=*last.end().max(range.end());
                }
                _ => merged.push(range),
            }
        }
        Ok((!merged.is_empty()).then_some(Self(merged)))
    }

    /// Whether the port is one of them.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }

    /// All ports, one by one.
    pub fn each(&self) -> impl Iterator<Item = u16> {
        self.0.iter().cloned().flatten()
    }

    /// All ports, those in a row as a range.
    pub fn ranges(&self) -> &[RangeInclusive<u16>] {
        &self.0
    }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, InvalidRule> {
    let invalid = || InvalidRule::Port(text.chars().take(32).collect());
    let port = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0).ok_or_else(invalid)
    };
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (port(from)?, port(to)?);
    if from <= to { Ok(from..=to) } else { Err(invalid()) }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.destination {
            Destination::Domain(domain) if self.looked_into => write!(f, "{domain}")?,
            Destination::Domain(domain) => write!(f, "{} {domain}", self.protocol)?,
            Destination::Range(range) => write!(f, "{} {range}", self.protocol)?,
        }
        for (number, ports) in self.ports.ranges().iter().enumerate() {
            let before = if number == 0 { ' ' } else { ',' };
            if ports.start() == ports.end() {
                write!(f, "{before}{}", ports.start())?;
            } else {
                write!(f, "{before}{}-{}", ports.start(), ports.end())?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Any => "any",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &str) -> Result<Rule, String> {
        let text: RuleText = serde_json::from_str(json).map_err(|error| error.to_string())?;
        Rule::parse(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_rule_leaves_out_is_the_usual() {
        let web = parsed(r#"{"domain": "Example.com"}"#).unwrap();
        assert!(web.is_about(Protocol::Tcp, 80) && web.is_about(Protocol::Tcp, 443));
        assert!(!web.is_about(Protocol::Tcp, 22) && !web.is_about(Protocol::Udp, 443));
        assert_eq!([80, 443, 22].map(|port| web.way(port)), [Way::Http, Way::Tls, Way::Tcp]);
        let raw = parsed(r#"{"domain": "a.org", "protocol": "tcp"}"#).unwrap();
        assert_eq!([80, 443].map(|port| raw.way(port)), [Way::Tcp, Way::Tcp]);
        let all = parsed(r#"{"cidr": "192.0.2.1"}"#).unwrap();
        assert_eq!(all.destination, Destination::Range("192.0.2.1/32".parse().unwrap()));
        assert!(all.is_about(Protocol::Udp, 53) && all.is_about(Protocol::Any, 0));
        let some = parsed(
            r#"{"cidr": "192.0.2.0/24", "protocol": "UDP", "ports": ["53", "8000-8100", "8101", "54"]}"#,
        );
        assert_eq!(some.unwrap().ports.ranges(), [53..=54, 8000..=8101]);
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_told_in_a_sentence() {
        for (json, expected) in [
            ("{}", "a rule has either a domain or a cidr"),
            (r#"{"domain": "a.org", "cidr": "192.0.2.1"}"#, "a rule has either a domain or a cidr"),
            (r#"{"cidr": "192.0.2.0/33"}"#, "\"192.0.2.0/33\" is not an IPv4 range such as 192.0.2.0/24"),
            (r#"{"cidr": "::/0"}"#, "\"::/0\" is not an IPv4 range such as 192.0.2.0/24"),
            (
                r#"{"cidr": "192.0.2.7/24"}"#,
                "192.0.2.7/24 has bits set behind its prefix; 192.0.2.0/24 may be meant",
            ),
            (r#"{"domain": "a.org", "protocol": "icmp"}"#, "\"icmp\" is not a protocol; tcp and udp are"),
            (
                r#"{"domain": "a.org", "ports": ["0"]}"#,
                "\"0\" is not a port from 1 to 65535 or a range of them such as 8000-8100",
            ),
            (
                r#"{"domain": "a.org", "ports": ["9-8"]}"#,
                "\"9-8\" is not a port from 1 to 65535 or a range of them such as 8000-8100",
            ),
            (r#"{"cidr": "192.0.2.1", "ports": ["1"]}"#, "ports of a cidr need the protocol tcp or udp"),
            (r#"{"domain": "a.org", "protocol": "udp"}"#, "a domain over udp needs its ports"),
            (
                r#"{"domain": "a.org", "protocol": "udp", "ports": ["440-450"]}"#,
                "UDP port 443 of a domain cannot be allowed: QUIC hides which name is asked for",
            ),
            (
                r#"{"domain": "a.org", "ports": ["1-65"]}"#,
                "a rule about a domain has at most 64 ports, ranges counted by their ports",
            ),
            (
                r#"{"domain": "*.com"}"#,
                "\"*.com\" would allow names that anybody can register, as com is a public suffix; name the domains themselves",
            ),
        ] {
            assert_eq!(parsed(json).unwrap_err(), expected, "{json}");
        }
        assert!(parsed(r#"{"domain": "a.org", "port": 1}"#).unwrap_err().contains("unknown field `port`"));
        let many = serde_json::json!({ "domain": "a.org", "ports": vec!["1"; 17] }).to_string();
        assert_eq!(parsed(&many).unwrap_err(), "a rule has at most 16 ports and ranges of ports");
    }
}
