use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const DOMAIN: &str = "lambda-microvm.us-east-1.example.test";
const HOST: &str = "0b7e3b0e-6a8a-4f0c-9b57-3a1f5f0e7d11.lambda-microvm.us-east-1.example.test.";

fn zone() -> Zone {
    let addresses = vec![Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::LOCALHOST.into()];
    Zone::new(DOMAIN, addresses, 7).unwrap()
}

fn query(name: &str, record_type: RecordType) -> Message {
    let mut message = Message::new(0xabcd, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    message
}

fn ask(zone: &Zone, message: &Message) -> Message {
    let answer = zone.answer(&message.to_vec().unwrap(), Transport::Udp).unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!((answer.metadata.id, answer.metadata.message_type), (0xabcd, MessageType::Response));
    assert!(answer.metadata.recursion_desired && !answer.metadata.recursion_available);
    answer
}

fn data(name: &str, record_type: RecordType) -> (ResponseCode, Vec<String>) {
    let answer = ask(&zone(), &query(name, record_type));
    (answer.metadata.response_code, answer.answers.iter().map(|record| record.data.to_string()).collect())
}

#[test]
fn hosts_have_the_addresses_whether_they_exist_or_not() {
    let addresses = |record_type| data(HOST, record_type).1;
    assert_eq!(addresses(RecordType::A), ["192.0.2.1"]);
    assert_eq!(addresses(RecordType::AAAA), ["::1"]);
    assert_eq!(addresses(RecordType::ANY), ["192.0.2.1", "::1"]);
    assert_eq!(data(&format!("x.{DOMAIN}."), RecordType::A).1, ["192.0.2.1"]);
    let answer = ask(&zone(), &query(&HOST.to_uppercase(), RecordType::A));
    assert_eq!(answer.queries[0].name().to_ascii(), HOST.to_uppercase(), "the question comes back as it was");
    assert_eq!(answer.answers[0].name.to_ascii(), HOST.to_uppercase());
    assert!(answer.metadata.authoritative && answer.authorities.is_empty());
}

#[test]
fn what_there_is_not_is_said_with_the_soa() {
    for (name, record_type, code) in [
        (HOST, RecordType::MX, ResponseCode::NoError),
        (&format!("{DOMAIN}."), RecordType::A, ResponseCode::NoError),
        (&format!("_acme-challenge.{DOMAIN}."), RecordType::TXT, ResponseCode::NoError),
        (&format!("_other.{DOMAIN}."), RecordType::A, ResponseCode::NXDomain),
        (&format!("a.b.{DOMAIN}."), RecordType::A, ResponseCode::NXDomain),
    ] {
        let answer = ask(&zone(), &query(name, record_type));
        assert_eq!(answer.metadata.response_code, code, "{name}");
        assert!(answer.answers.is_empty(), "{name}");
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA, "{name}");
    }
}

#[test]
fn the_apex_has_soa_and_name_server() {
    let (_, soa) = data(&format!("{DOMAIN}."), RecordType::SOA);
    assert_eq!(soa, [format!("ns.{DOMAIN}. hostmaster.{DOMAIN}. 7 3600 600 604800 60")]);
    let (_, servers) = data(&format!("{DOMAIN}."), RecordType::NS);
    assert_eq!(servers, [format!("ns.{DOMAIN}.")]);
    assert_eq!(data(&servers[0], RecordType::A).1, ["192.0.2.1"]);
}

#[test]
fn everything_else_is_refused() {
    let refused = |message: &Message| {
        let answer = ask(&zone(), message);
        assert!(answer.answers.is_empty() && answer.authorities.is_empty());
        answer.metadata.response_code
    };
    for name in [".", "example.test.", "us-east-1.example.test.", "xlambda-microvm.us-east-1.example.test."] {
        assert_eq!(refused(&query(name, RecordType::A)), ResponseCode::Refused, "{name}");
    }
    for record_type in [RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(refused(&query(&format!("{DOMAIN}."), record_type)), ResponseCode::Refused);
    }
    let mut chaos = query(HOST, RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(refused(&chaos), ResponseCode::Refused);
    let mut update = query(HOST, RecordType::A);
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(refused(&update), ResponseCode::NotImp);
    let mut two = query(HOST, RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(refused(&two), ResponseCode::FormErr);
    let mut none = query(HOST, RecordType::A);
    none.queries.clear();
    assert_eq!(refused(&none), ResponseCode::FormErr);
    let mut later = query(HOST, RecordType::A);
    later.set_edns(Edns::new().set_version(1).clone());
    let answer = zone().answer(&later.to_vec().unwrap(), Transport::Udp).unwrap();
    // 16 is four bits in the header and eight in the OPT record, whose name, type and
    // class are before them.
    assert_eq!((answer[3] & 0x0f, answer[answer.len() - 6]), (0, 1));
}

#[test]
fn proofs_come_and_go() {
    let zone = zone();
    let name = format!("_acme-challenge.{DOMAIN}");
    let ask = || {
        let answer = ask(&zone, &query(&format!("{name}."), RecordType::TXT));
        answer.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>()
    };
    zone.add_challenge(&name, "one").unwrap();
    zone.add_challenge(&format!("{}.", name.to_uppercase()), "two").unwrap();
    assert_eq!(ask(), ["one", "two"]);
    zone.remove_challenge(&name, "one").unwrap();
    assert_eq!(ask(), ["two"]);
    (0..100).for_each(|number| zone.add_challenge(&name, &number.to_string()).unwrap());
    assert_eq!(ask().len(), CHALLENGES_MAX);
    assert!(matches!(zone.add_challenge("_acme-challenge.example.test", "x"), Err(ZoneError::OtherName(_))));
}

#[test]
fn answers_fit_where_they_are_sent() {
    let addresses: Vec<IpAddr> =
        (1..=8).map(|last| Ipv6Addr::new(1, 2, 3, 4, 5, 6, 7, last).into()).collect();
    let domain = ["a".repeat(60), "b".repeat(60), "c".repeat(60)].join(".");
    let zone = Zone::new(&domain, addresses.clone(), 1).unwrap();
    let longest = query(&format!("{}.{domain}.", "d".repeat(60)), RecordType::AAAA).to_vec().unwrap();
    let answer = zone.answer(&longest, Transport::Udp).unwrap();
    let read = Message::from_vec(&answer).unwrap();
    assert!(answer.len() <= 512 && read.answers.len() == 8 && !read.metadata.truncation);
    assert!(answer.len() < longest.len() * 3, "{} of {}", answer.len(), longest.len());
    let short = Message::from_vec(&Zone::use_tcp(&longest).unwrap()).unwrap();
    assert!(short.metadata.truncation && short.answers.is_empty());
    assert!(Zone::use_tcp(&longest).unwrap().len() <= longest.len());
    assert!(matches!(Zone::new(DOMAIN, Vec::new(), 1), Err(ZoneError::Addresses(0))));
    assert!(matches!(
        Zone::new(DOMAIN, [addresses.clone(), addresses].concat(), 1),
        Err(ZoneError::Addresses(16))
    ));
    assert!(matches!(
        Zone::new(&"x".repeat(300), vec![Ipv4Addr::LOCALHOST.into()], 1),
        Err(ZoneError::NoName(_))
    ));
}

#[test]
fn what_is_no_query_is_not_answered() {
    let zone = zone();
    let mut response = query(HOST, RecordType::A).to_vec().unwrap();
    response[2] |= 0x80;
    for message in [&response[..], &response[..11], &[]] {
        assert_eq!(zone.answer(message, Transport::Udp), None);
        assert_eq!(Zone::use_tcp(message), None);
    }
    let good = query(HOST, RecordType::A).to_vec().unwrap();
    for end in HEADER..good.len() {
        let answer = zone.answer(&good[..end], Transport::Udp).unwrap();
        assert_eq!((answer.len(), answer[3] & 0x0f), (HEADER, 1), "{end} bytes");
    }
}

#[test]
fn fuzz_queries() {
    let zone = zone();
    zone.add_challenge(&format!("_acme-challenge.{DOMAIN}"), &"x".repeat(43)).unwrap();
    let good = query(HOST, RecordType::A).to_vec().unwrap();
    bolero::check!().for_each(|bytes: &[u8]| {
        // As it is, and behind a header that says that there is one question.
        for message in [bytes.to_vec(), [&good[..HEADER], bytes].concat()] {
            if let Some(answer) = zone.answer(&message, Transport::Udp) {
                assert!(answer.len() <= usize::from(UDP_ANSWER_MAX) && answer[..2] == message[..2]);
                assert!(answer[2] & 0x80 != 0);
            }
            assert!(Zone::use_tcp(&message).is_none_or(|answer| answer.len() <= message.len().max(HEADER)));
        }
    });
}
