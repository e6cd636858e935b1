//! Decisions as the API tells them.

use std::time::{SystemTime, UNIX_EPOCH};

use hearth_api::egress::{ALLOWED, REFUSED};
use hearth_api::{EgressDecision, Timestamp};
use hearth_host_net::{Attempt, Decision, Kind};

/// Number of ICMP (RFC 792).
const ICMP: u8 = 1;

pub(crate) fn decision(made: Decision) -> EgressDecision {
    let Decision { attempt: Attempt { kind, name, address, port, allowed }, rule, why, first, last, count } =
        made;
    let protocol = match kind {
        Kind::Dns => "dns".to_owned(),
        Kind::TCP => "tcp".to_owned(),
        Kind::UDP => "udp".to_owned(),
        Kind::Flow(ICMP) => "icmp".to_owned(),
        Kind::Flow(number) => format!("ip-{number}"),
    };
    EgressDecision {
        verdict: if allowed { ALLOWED } else { REFUSED }.to_owned(),
        protocol,
        name,
        address,
        port: (port > 0).then_some(port),
        rule,
        reason: why.map(str::to_owned).or_else(|| (!allowed).then(|| "no rule allows it".to_owned())),
        first: timestamp(first),
        last: timestamp(last),
        count,
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_refusal_says_why() {
        let address = Some(Ipv4Addr::new(192, 0, 2, 1));
        let attempt = Attempt { kind: Kind::TCP, name: None, address, port: 22, allowed: false };
        let made = Decision { attempt, rule: None, why: None, first: UNIX_EPOCH, last: UNIX_EPOCH, count: 2 };
        let told = decision(made.clone());
        assert_eq!((told.verdict.as_str(), told.protocol.as_str(), told.port), ("REFUSED", "tcp", Some(22)));
        assert_eq!(told.reason.as_deref(), Some("no rule allows it"));
        let attempt = Attempt { kind: Kind::Dns, address: None, port: 0, allowed: true, ..made.attempt };
        let told = decision(Decision { attempt, rule: Some(1), ..made });
        assert_eq!((told.verdict.as_str(), told.protocol.as_str(), told.reason), ("ALLOWED", "dns", None));
        assert_eq!((told.port, told.rule), (None, Some(1)));
    }
}
