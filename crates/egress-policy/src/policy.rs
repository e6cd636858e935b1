//! All rules together.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use crate::domain::Domain;
use crate::ranges::{OpenRange, open_ranges};
use crate::rule::{Destination, InvalidRule, Protocol, QUIC, Rule, RuleText, Way};

/// Rules of a policy at most.
pub const RULES_MAX: usize = 1000;
/// Ports and ranges of ports that all rules about ranges name together at most.
pub const PORT_RANGES_MAX: usize = 1000;
/// Pieces that its ranges may be cut into: so many entries a packet filter gets for each microVM.
pub const PIECES_MAX: usize = 10_000;

/// What a microVM may reach. Without rules that is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    ranges: Vec<OpenRange>,
    /// Rules about a name, and about all names below one.
    exact: HashMap<String, Vec<usize>>,
    below: HashMap<String, Vec<usize>>,
}

/// Why rules are no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// Too many.
    #[error("A policy has at most {RULES_MAX} rules; this one has {0}.")]
    TooManyRules(usize),
    /// One of them is none.
    #[error("Rule {0} is not valid: {1}.")]
    Rule(usize, InvalidRule),
    /// Too many ports.
    #[error("The rules about ranges name {0} ports and ranges of ports; {PORT_RANGES_MAX} may be.")]
    TooManyPorts(usize),
    /// Their ports overlap too often.
    #[error(
        "The ranges of the rules fall into {0} pieces that do not overlap; {PIECES_MAX} may be. Use fewer ranges of ports."
    )]
    TooManyPieces(usize),
    /// QUIC hides names.
    #[error(
        "Rule {0} is not valid: UDP port {QUIC} is closed in a policy that names domains, as QUIC hides which name is asked for."
    )]
    Quic(usize),
}

impl Policy {
    /// Reads rules; they are numbered from 1.
    ///
    /// # Errors
    /// The first thing that is wrong, as a sentence.
    pub fn parse(texts: &[RuleText]) -> Result<Self, InvalidPolicy> {
        if texts.len() > RULES_MAX {
            return Err(InvalidPolicy::TooManyRules(texts.len()));
        }
        let read = |(number, text)| Rule::parse(text).map_err(|error| InvalidPolicy::Rule(number, error));
        let rules: Vec<Rule> = (1..).zip(texts).map(read).collect::<Result<_, _>>()?;
        let of_ranges = rules.iter().filter(|rule| matches!(rule.destination, Destination::Range(_)));
        let port_ranges = of_ranges.map(|rule| rule.ports.ranges().len()).sum();
        if port_ranges > PORT_RANGES_MAX {
            return Err(InvalidPolicy::TooManyPorts(port_ranges));
        }
        let (mut exact, mut below) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (index, rule) in rules.iter().enumerate() {
            match &rule.destination {
                Destination::Domain(Domain::Exact(name)) => {
                    exact.entry(name.clone()).or_default().push(index);
                }
                Destination::Domain(Domain::Below(name)) => {
                    below.entry(name.clone()).or_default().push(index);
                }
                Destination::Range(_) => {}
            }
        }
        let policy = Self { ranges: open_ranges(&rules), rules, exact, below };
        if policy.ranges.len() > PIECES_MAX {
            return Err(InvalidPolicy::TooManyPieces(policy.ranges.len()));
        }
        match policy.rules.iter().zip(texts).position(|(rule, text)| policy.closes(rule, text)) {
            Some(index) => Err(InvalidPolicy::Quic(index + 1)),
            None => Ok(policy),
        }
    }

    /// Whether a rule opens by name what is closed here.
    fn closes(&self, rule: &Rule, text: &RuleText) -> bool {
        let names_quic =
            rule.protocol == Protocol::Udp && !text.ports.is_empty() && rule.ports.contains(QUIC);
        names_quic && self.has_domains()
    }

    /// Whether there are rules about domains. Then UDP port 443 is closed whatever the others say.
    pub fn has_domains(&self) -> bool {
        !self.exact.is_empty() || !self.below.is_empty()
    }

    /// A number that other policies do not have, but for a chance of one in four thousand million;
    /// never 0, and always the same.
    pub fn fingerprint(&self) -> u32 {
        let mut hasher = blake3::Hasher::new();
        for rule in &self.rules {
            hasher.update(format!("{rule}\n").as_bytes());
        }
        let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
        u32::from_be_bytes([a, b, c, d]).max(1)
    }

    /// Its rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What its rules about ranges open, in pieces that do not overlap as long as they are of one
    /// protocol. UDP port 443 may be in one also where it is closed.
    pub fn ranges(&self) -> &[OpenRange] {
        &self.ranges
    }

    /// Numbers of the rules about this name ([`crate::domain::normalised`]), in their order.
    pub fn rules_of(&self, name: &str) -> Vec<usize> {
        let exact = self.exact.get(name).into_iter().flatten();
        let parents = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
        let below = parents.filter_map(|parent| self.below.get(parent)).flatten();
        let mut found: Vec<usize> = exact.chain(below).map(|index| index + 1).collect();
        found.sort_unstable();
        found
    }

    /// The rule that lets this name be reached in a way at a port.
    pub fn rule_of_name(&self, name: &str, way: Way, port: u16) -> Option<usize> {
        let allows = |rule: &Rule| rule.ports.contains(port) && rule.way(port) == way;
        self.rules_of(name).into_iter().find(|number| allows(&self.rules[number - 1]))
    }

    /// The rule about a range that lets this address be reached.
    pub fn rule_of_address(&self, address: Ipv4Addr, protocol: Protocol, port: u16) -> Option<usize> {
        if self.has_domains() && protocol == Protocol::Udp && port == QUIC {
            return None;
        }
        let matches = |rule: &Rule| {
            matches!(rule.destination, Destination::Range(range) if range.contains(&address))
                && rule.is_about(protocol, port)
        };
        self.rules.iter().position(matches).map(|index| index + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Result<Policy, String> {
        let texts: Vec<RuleText> = serde_json::from_str(json).unwrap();
        Policy::parse(&texts).map_err(|error| error.to_string())
    }

    #[test]
    fn what_no_rule_allows_is_refused() {
        let policy = policy(
            r#"[{"domain": "pypi.org"}, {"domain": "*.pythonhosted.org", "ports": ["443"]},
                {"domain": "pypi.org", "ports": ["22"]}, {"cidr": "192.0.2.0/24", "protocol": "udp"}]"#,
        )
        .unwrap();
        assert_eq!(policy.rules_of("pypi.org"), [1, 3]);
        assert_eq!(policy.rule_of_name("pypi.org", Way::Tcp, 22), Some(3));
        assert_eq!(policy.rule_of_name("files.pythonhosted.org", Way::Tls, 443), Some(2));
        assert_eq!(policy.rule_of_name("files.pythonhosted.org", Way::Http, 80), None);
        for name in ["pythonhosted.org", "xpypi.org", "a.pypi.org", "org", ""] {
            assert!(policy.rules_of(name).is_empty(), "{name}");
        }
        let address = Ipv4Addr::new(192, 0, 2, 9);
        assert_eq!(policy.rule_of_address(address, Protocol::Udp, 53), Some(4));
        assert_eq!(policy.rule_of_address(address, Protocol::Udp, QUIC), None, "there are domains");
        assert_eq!(policy.rule_of_address(address, Protocol::Tcp, 53), None);
        assert_eq!(policy.rule_of_address(Ipv4Addr::new(192, 0, 3, 9), Protocol::Udp, 53), None);
        let none = Policy::parse(&[]).unwrap();
        assert!(none.ranges().is_empty());
        assert!(
            none.fingerprint() != policy.fingerprint()
                && policy.fingerprint() == policy.clone().fingerprint()
        );
        assert_eq!(policy.rules()[1].to_string(), "*.pythonhosted.org 443");
        assert_eq!(policy.rules()[3].to_string(), "udp 192.0.2.0/24 0-65535");
    }

    #[test]
    fn the_rule_that_is_wrong_is_named() {
        assert_eq!(
            policy(r#"[{"domain": "a.org"}, {"domain": "*.com"}]"#).unwrap_err(),
            "Rule 2 is not valid: \"*.com\" would allow names that anybody can register, as com is a public suffix; \
             name the domains themselves."
        );
        let quic = r#"[{"cidr": "192.0.2.1", "protocol": "udp", "ports": ["443"]}, {"domain": "a.org"}]"#;
        assert!(
            policy(quic).unwrap_err().starts_with("Rule 1 is not valid: UDP port 443 is closed in a policy")
        );
        policy(r#"[{"cidr": "192.0.2.1", "protocol": "udp", "ports": ["443"]}]"#).unwrap();
        let many = vec![RuleText { domain: Some("a.org".to_owned()), ..RuleText::default() }; 10_000];
        assert_eq!(
            Policy::parse(&many).unwrap_err().to_string(),
            "A policy has at most 1000 rules; this one has 10000."
        );
    }

    #[test]
    fn rules_that_fall_into_too_many_pieces_are_refused() {
        let rule = |number: u16| RuleText {
            cidr: Some(format!("10.{}.{}.0/24", number / 256 * 2, number % 256 / 2 * 2)),
            protocol: Some("tcp".to_owned()),
            ports: vec![format!("{}-{}", 1 + number, 10_000 + number)],
            domain: None,
        };
        let many: Vec<_> = (0..900).map(rule).collect();
        let error = Policy::parse(&many).unwrap_err();
        assert!(matches!(error, InvalidPolicy::TooManyPieces(_)), "{error}");
        let ports = (1..=16).map(|port| (port * 2).to_string()).collect();
        let many = vec![RuleText { ports, ..rule(0) }; 63];
        let error = Policy::parse(&many).unwrap_err().to_string();
        assert_eq!(error, "The rules about ranges name 1008 ports and ranges of ports; 1000 may be.");
    }
}
