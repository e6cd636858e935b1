//! What is in the zone, and how queries are answered (RFC 1035, 2308, 6891, 8482).

use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, NS, SOA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// Addresses of the zone at most, so that an answer fits 512 bytes.
pub const ADDRESSES_MAX: usize = 8;
/// How long answers may be kept, in seconds; also the negative ones.
const TTL_SECONDS: u32 = 60;
/// How long a proof may be kept, in seconds; it changes with each order.
const CHALLENGE_TTL_SECONDS: u32 = 1;
/// Proofs that are kept at a time; the oldest goes first.
const CHALLENGES_MAX: usize = 8;
/// Largest answer over UDP: what passes every network unfragmented.
const UDP_ANSWER_MAX: u16 = 1232;
/// Largest answer to a client that does not know of EDNS.
const PLAIN_ANSWER_MAX: u16 = 512;
/// Length of a message's header.
const HEADER: usize = 12;
/// Label of the name server itself, and of the names of proofs.
const NAME_SERVER: &str = "ns";
const CHALLENGE: &str = "_acme-challenge";

/// The zone of one domain.
#[derive(Debug)]
pub struct Zone {
    apex: Name,
    addresses: Vec<IpAddr>,
    serial: u32,
    /// TXT records of `_acme-challenge`.
    challenges: RwLock<Vec<String>>,
}

/// Why there is no such zone or record.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// The domain is no name.
    #[error("{0:?} is no domain name")]
    NoName(String),
    /// There are no addresses, or too many.
    #[error("a name server needs 1 to {ADDRESSES_MAX} addresses to answer with; there are {0}")]
    Addresses(usize),
    /// The only TXT records that are kept are the proofs for this domain.
    #[error("there are no records for {0}")]
    OtherName(String),
}

/// How a query has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

impl Zone {
    /// Every name directly below `domain` has these addresses. `serial` should go up
    /// with each start.
    pub fn new(domain: &str, addresses: Vec<IpAddr>, serial: u32) -> Result<Self, ZoneError> {
        let mut apex = Name::from_ascii(domain).map_err(|_| ZoneError::NoName(domain.to_owned()))?;
        apex.set_fqdn(true);
        if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
            return Err(ZoneError::Addresses(addresses.len()));
        }
        Ok(Self { apex: apex.to_lowercase(), addresses, serial, challenges: RwLock::default() })
    }

    /// Adds the proof that an ACME server asks for, under `_acme-challenge.<domain>`.
    pub fn add_challenge(&self, name: &str, value: &str) -> Result<(), ZoneError> {
        let mut challenges = self.challenges_of(name)?;
        if challenges.len() == CHALLENGES_MAX {
            challenges.remove(0);
        }
        challenges.push(value.to_owned());
        Ok(())
    }

    /// Removes it again.
    pub fn remove_challenge(&self, name: &str, value: &str) -> Result<(), ZoneError> {
        self.challenges_of(name)?.retain(|kept| kept != value);
        Ok(())
    }

    fn challenges_of(&self, name: &str) -> Result<std::sync::RwLockWriteGuard<'_, Vec<String>>, ZoneError> {
        let wanted = format!("{CHALLENGE}.{}", self.apex);
        if !name.trim_end_matches('.').eq_ignore_ascii_case(wanted.trim_end_matches('.')) {
            return Err(ZoneError::OtherName(name.to_owned()));
        }
        Ok(self.challenges.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The answer to a message; `None` for what is no query.
    pub(crate) fn answer(&self, message: &[u8], transport: Transport) -> Option<Vec<u8>> {
        if message.len() < HEADER || message[2] & 0x80 != 0 {
            return None;
        }
        let Some(query) = read(message) else { return Some(format_error(message)) };
        let mut answer = self.respond(&query);
        let room = match (transport, &query.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_ANSWER_MAX, UDP_ANSWER_MAX),
            (Transport::Udp, None) => PLAIN_ANSWER_MAX,
        };
        if query.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_ANSWER_MAX).set_rcode_high(answer.metadata.response_code.high());
            answer.set_edns(edns);
        }
        match answer.to_vec() {
            Ok(bytes) if bytes.len() <= usize::from(room) => Some(bytes),
            Ok(_) => answer.truncate().to_vec().ok(),
            Err(_) => Some(format_error(message)),
        }
    }

    /// An answer that says nothing but that TCP is to be used; no longer than the
    /// query with an OPT record.
    pub(crate) fn use_tcp(message: &[u8]) -> Option<Vec<u8>> {
        if message.len() < HEADER || message[2] & 0x80 != 0 {
            return None;
        }
        let mut answer = response_to(&read(message)?);
        answer.metadata.truncation = true;
        answer.to_vec().ok()
    }

    fn respond(&self, query: &Message) -> Message {
        let mut answer = response_to(query);
        let code = match &query.queries[..] {
            _ if query.metadata.op_code != OpCode::Query => ResponseCode::NotImp,
            _ if query.edns.as_ref().is_some_and(|edns| edns.version() != 0) => ResponseCode::BADVERS,
            [asked] if !self.serves(asked) => ResponseCode::Refused,
            [asked] => {
                answer.metadata.authoritative = true;
                self.look_up(asked, &mut answer)
            }
            _ => ResponseCode::FormErr,
        };
        answer.metadata.response_code = code;
        answer
    }

    /// Transfers would tell nothing that is not in docs/endpoint.md, but they are long.
    fn serves(&self, asked: &Query) -> bool {
        asked.query_class() == DNSClass::IN
            && !matches!(asked.query_type(), RecordType::AXFR | RecordType::IXFR)
            && self.apex.zone_of(asked.name())
    }

    fn look_up(&self, asked: &Query, answer: &mut Message) -> ResponseCode {
        let (name, record_type) = (asked.name(), asked.query_type());
        let below = name.num_labels() - self.apex.num_labels();
        let first = name.iter().next().unwrap_or_default();
        let records = match below {
            0 => self.of_apex(name, record_type),
            1 if first.eq_ignore_ascii_case(CHALLENGE.as_bytes()) => self.of_challenge(name, record_type),
            // The names of hosts do not begin with an underscore.
            1 if !first.starts_with(b"_") => self.of_host(name, record_type),
            _ => {
                answer.add_authority(self.soa());
                return ResponseCode::NXDomain;
            }
        };
        if records.is_empty() {
            answer.add_authority(self.soa());
        }
        answer.add_answers(records);
        ResponseCode::NoError
    }

    fn of_apex(&self, name: &Name, record_type: RecordType) -> Vec<Record> {
        match record_type {
            // Of ANY, one kind is enough (RFC 8482, section 4.1).
            RecordType::SOA | RecordType::ANY => vec![self.soa()],
            RecordType::NS => {
                vec![Record::from_rdata(name.clone(), TTL_SECONDS, RData::NS(NS(self.name_server())))]
            }
            _ => Vec::new(),
        }
    }

    fn of_host(&self, name: &Name, record_type: RecordType) -> Vec<Record> {
        let data = self.addresses.iter().filter_map(|address| match (address, record_type) {
            (IpAddr::V4(address), RecordType::A | RecordType::ANY) => Some(RData::A(A(*address))),
            (IpAddr::V6(address), RecordType::AAAA | RecordType::ANY) => Some(RData::AAAA(AAAA(*address))),
            _ => None,
        });
        data.map(|data| Record::from_rdata(name.clone(), TTL_SECONDS, data)).collect()
    }

    fn of_challenge(&self, name: &Name, record_type: RecordType) -> Vec<Record> {
        if !matches!(record_type, RecordType::TXT | RecordType::ANY) {
            return Vec::new();
        }
        let challenges = self.challenges.read().unwrap_or_else(PoisonError::into_inner);
        let record = |value: &String| {
            let data = RData::TXT(TXT::new(vec![value.clone()]));
            Record::from_rdata(name.clone(), CHALLENGE_TTL_SECONDS, data)
        };
        challenges.iter().map(record).collect()
    }

    fn name_server(&self) -> Name {
        self.below_apex(NAME_SERVER)
    }

    fn below_apex(&self, label: &str) -> Name {
        // A domain that leaves no room for another label has no hosts either.
        self.apex.prepend_label(label).unwrap_or_else(|_| self.apex.clone())
    }

    /// Its last member is how long it is believed that there is nothing (RFC 2308, section 5).
    fn soa(&self) -> Record {
        let (server, mailbox) = (self.name_server(), self.below_apex("hostmaster"));
        let soa = SOA::new(server, mailbox, self.serial, 3600, 600, 604_800, TTL_SECONDS);
        Record::from_rdata(self.apex.clone(), TTL_SECONDS, RData::SOA(soa))
    }
}

/// A message, if its question is written out. One that points into itself instead would come
/// back longer than it was.
fn read(message: &[u8]) -> Option<Message> {
    let query = Message::from_vec(message).ok()?;
    let question = response_to(&query).to_vec().ok()?;
    (question.len() <= message.len()).then_some(query)
}

fn response_to(query: &Message) -> Message {
    let mut answer = Message::new(query.metadata.id, MessageType::Response, query.metadata.op_code);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.add_queries(query.queries.iter().take(1).cloned());
    answer
}

/// The header of a message that cannot be read, turned into an answer.
fn format_error(message: &[u8]) -> Vec<u8> {
    let mut answer = vec![0; HEADER];
    answer[..2].copy_from_slice(&message[..2]);
    // QR, the operation and RD as they were; code 1.
    answer[2] = 0x80 | (message[2] & 0x79);
    answer[3] = 1;
    answer
}

#[cfg(test)]
mod tests;
