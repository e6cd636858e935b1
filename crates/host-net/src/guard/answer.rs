//! What an answer of a name server says (RFC 1035). It may be whatever a guest's accomplice wants.

use std::net::Ipv4Addr;
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::RData;

/// Types SVCB and HTTPS (RFC 9460).
const SVCB: u16 = 64;
const HTTPS: u16 = 65;

/// Whether records of this type tell where and how a service is reached: besides addresses, the
/// keys of Encrypted Client Hello, under which a client hides the name that it asks for.
pub(super) fn is_service_binding(record_type: u16) -> bool {
    matches!(record_type, SVCB | HTTPS)
}

/// The addresses that it has, and for how long they are good. `None` if it cannot be read, or has
/// records that were not asked for and under which names could be hidden.
pub(super) fn addresses(answer: &[u8]) -> Option<Vec<(Ipv4Addr, Duration)>> {
    let message = Message::from_vec(answer).ok()?;
    let mut records = message.answers.iter().chain(&message.authorities).chain(&message.additionals);
    if records.any(|record| is_service_binding(record.record_type().into())) {
        return None;
    }
    let address = |record: &hickory_proto::rr::Record| match &record.data {
        RData::A(address) => Some((address.0, Duration::from_secs(record.ttl.into()))),
        _ => None,
    };
    Some(message.answers.iter().filter_map(address).collect())
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::rdata::{A, CNAME};
    use hickory_proto::rr::{Name, Record};

    use super::*;

    #[test]
    fn the_addresses_behind_other_names_are_the_answers_too() {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.answers.extend([
            Record::from_rdata(name("a.org."), 60, RData::CNAME(CNAME(name("b.net.")))),
            Record::from_rdata(name("b.net."), 30, RData::A(A::new(192, 0, 2, 1))),
        ]);
        let bytes = message.to_vec().unwrap();
        assert_eq!(addresses(&bytes).unwrap(), [(Ipv4Addr::new(192, 0, 2, 1), Duration::from_secs(30))]);
        assert_eq!(addresses(&bytes[..bytes.len() - 2]), None);
        assert_eq!(addresses(&[]), None);
        assert!(is_service_binding(65) && !is_service_binding(1));
    }
}
