//! How a value of the request is compared with one of the policy.

use std::cmp::Ordering;
use std::net::IpAddr;

use jiff::{Timestamp, civil, tz::TimeZone};

use crate::budget::Budget;
use crate::matching::{Template, Variables, Wildcards};
use crate::request::Context;

/// What kind of values an operator compares, and how. Negation is not its business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Text,
    TextIgnoringCase,
    TextWithWildcards,
    Arn,
    Bool,
    Numeric(Order),
    Date(Order),
    IpAddress,
}

/// How the request's value must stand to the policy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn admits(self, actual: Ordering) -> bool {
        match self {
            Self::Equal => actual.is_eq(),
            Self::Less => actual.is_lt(),
            Self::LessOrEqual => actual.is_le(),
            Self::Greater => actual.is_gt(),
            Self::GreaterOrEqual => actual.is_ge(),
        }
    }
}

/// A value of the policy, ready to be compared.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expected {
    Text(Template),
    TextIgnoringCase(Template),
    Arn(Template),
    Bool(bool),
    Number(Order, f64),
    Date(Order, Timestamp),
    Network(Network),
}

impl Expected {
    /// Reads a value of the policy. Variables are for strings and ARNs only (user guide, "IAM
    /// policy elements: Variables and tags").
    pub(super) fn parse(comparison: Comparison, text: &str, variables: Variables) -> Result<Self, String> {
        let template = |wildcards| Template::parse(text, wildcards, variables);
        match comparison {
            Comparison::Text => template(Wildcards::Plain).map(Self::Text),
            Comparison::TextIgnoringCase => template(Wildcards::Plain).map(Self::TextIgnoringCase),
            Comparison::TextWithWildcards => template(Wildcards::Special).map(Self::Text),
            Comparison::Arn if text.splitn(6, ':').count() == 6 || text.starts_with("${") => {
                template(Wildcards::Special).map(Self::Arn)
            }
            Comparison::Arn => Err(format!(
                "The ARN \"{text}\" of a condition must have six parts, such as \"arn:aws:lambda:*:123456789012:*\"."
            )),
            Comparison::Bool => boolean(text).map(Self::Bool),
            Comparison::Numeric(order) => number(text)
                .map(|number| Self::Number(order, number))
                .ok_or_else(|| format!("\"{text}\" of a condition must be a number such as 5 or 0.5.")),
            Comparison::Date(order) => date(text).map(|date| Self::Date(order, date)).ok_or_else(|| {
                format!(
                    "\"{text}\" of a condition must be a date such as \"2026-01-31T00:00:00Z\" or \"2026-01-31\", or \
                     seconds since 1970."
                )
            }),
            Comparison::IpAddress => Network::parse(text).map(Self::Network).ok_or_else(|| {
                format!("\"{text}\" of a condition must be an IP address or range such as \"203.0.113.0/24\".")
            }),
        }
    }

    /// Whether the request's value is as the policy has it. A value of another type is not.
    pub(super) fn matches(&self, actual: &str, context: &Context, budget: &Budget) -> bool {
        match self {
            Self::Text(template) => template.matches(actual, context, budget),
            Self::TextIgnoringCase(template) => template.equals_ignoring_case(actual, context, budget),
            Self::Arn(template) => template.matches_arn(actual, context, budget),
            // All others read the value anew.
            _ if !budget.take(1 + actual.len()) => false,
            Self::Bool(expected) => boolean(actual).is_ok_and(|actual| actual == *expected),
            Self::Number(order, expected) => number(actual)
                .and_then(|actual| actual.partial_cmp(expected))
                .is_some_and(|ordering| order.admits(ordering)),
            Self::Date(order, expected) => {
                date(actual).is_some_and(|actual| order.admits(actual.cmp(expected)))
            }
            Self::Network(network) => actual.parse().is_ok_and(|address| network.contains(address)),
        }
    }
}

/// `true` or `false` in any case.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(format!("\"{text}\" of a condition must be \"true\" or \"false\"."))
    }
}

/// A finite number. Beyond 2^53 neighbours are equal.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// A time of ISO 8601, a date (midnight in UTC), or seconds since 1970 (user guide, "Date condition
/// operators"). Four digits would be either a year or an hour in 1970, and are neither.
fn date(text: &str) -> Option<Timestamp> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return if text.len() == 4 { None } else { Timestamp::from_second(text.parse().ok()?).ok() };
    }
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let is_date = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let date: civil::Date = text.parse().ok().filter(|_| is_date)?;
    date.to_zoned(TimeZone::UTC).ok().map(|midnight| midnight.timestamp())
}

/// A range of IP addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Reads an address, or CIDR (RFC 4632, RFC 4291). Bits after the prefix are ignored.
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
        };
        (prefix <= longest).then_some(Self { address, prefix })
    }

    fn contains(&self, address: IpAddr) -> bool {
        // A socket for both families shows IPv4 as ::ffff:a.b.c.d.
        let address = address.to_canonical();
        self.address.is_ipv4() == address.is_ipv4()
            && (left_aligned(self.address) ^ left_aligned(address))
                .checked_shr(128 - self.prefix)
                .unwrap_or(0)
                == 0
    }
}

fn left_aligned(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}
