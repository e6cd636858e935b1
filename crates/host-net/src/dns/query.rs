//! What a guest may ask: one question of class IN, opcode QUERY, for records and not for
//! zones (RFC 1035, 4.1).
//!
//! The relay asks with the host's address, which the host's name servers may trust more than a
//! guest: they may take updates from it (RFC 2136), notifications (RFC 1996), or hand it whole
//! zones (RFC 5936, RFC 1995).

/// Length of a DNS header.
pub(super) const HEADER: usize = 12;
/// Longest query: the longest name, and an OPT record with options.
const QUERY_BYTES_MAX: usize = 4096;
/// Longest name in a message, with the lengths of its labels.
const NAME_BYTES_MAX: usize = 255;

pub(super) const NO_ERROR: u8 = 0;
const FORMAT_ERROR: u8 = 1;
pub(super) const SERVER_FAILURE: u8 = 2;
/// NXDOMAIN: there is no such name. What other refusals say, not every resolver takes for an
/// answer: musl's waits on.
pub(super) const NAME_ERROR: u8 = 3;
pub(super) const NOT_IMPLEMENTED: u8 = 4;
pub(super) const REFUSED: u8 = 5;

const OPT: u16 = 41;
const IN: u16 = 1;

/// What becomes of a message from a guest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is passed on.
    Ask,
    /// It is answered with this code (RFC 1035, 4.1.1; RFC 2136, 2.2).
    Answer(u8),
    /// It is no query, and gets no answer.
    Ignore,
}

/// Judges a message.
pub(super) fn judge(message: &[u8]) -> Verdict {
    if message.len() < HEADER || is_response(message) {
        return Verdict::Ignore;
    }
    if message[2] >> 3 & 0x0f != 0 {
        return Verdict::Answer(NOT_IMPLEMENTED);
    }
    let Some((record_type, class)) = only_question(message) else { return Verdict::Answer(FORMAT_ERROR) };
    match record_type {
        // Pseudo records, and all that is no record but a question or about a transfer (RFC 6895,
        // 3.1): AXFR, IXFR, ANY, …
        0 | OPT | 128..=255 => Verdict::Answer(REFUSED),
        _ if class != IN => Verdict::Answer(REFUSED),
        _ => Verdict::Ask,
    }
}

/// Type and class of the question, if there is one and, but for an OPT record (RFC
/// 6891), nothing else.
fn only_question(message: &[u8]) -> Option<(u16, u16)> {
    let counts: [u16; 4] = [4, 6, 8, 10].map(|at| u16::from_be_bytes([message[at], message[at + 1]]));
    if message.len() > QUERY_BYTES_MAX || !matches!(counts, [1, 0, 0, 0 | 1]) {
        return None;
    }
    let after_name = HEADER + name_length(&message[HEADER..])?;
    let question = message.get(after_name..after_name + 4)?;
    let rest = &message[after_name + 4..];
    let complete = if counts[3] == 1 { is_opt(rest) } else { rest.is_empty() };
    let number = |at: usize| u16::from_be_bytes([question[at], question[at + 1]]);
    complete.then(|| (number(0), number(2)))
}

/// Length of the name at the beginning, which is written out: there is nothing
/// before it to point to.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let label = usize::from(*bytes.get(at)?);
        at += 1 + label;
        if label > 63 || at > NAME_BYTES_MAX {
            return None;
        }
        if label == 0 {
            return Some(at);
        }
    }
}

/// Whether this is one OPT record: the root's name, type, class, TTL, length, options.
fn is_opt(record: &[u8]) -> bool {
    let Some((head, options)) = record.split_at_checked(11) else { return false };
    head[0] == 0
        && u16::from_be_bytes([head[1], head[2]]) == OPT
        && usize::from(u16::from_be_bytes([head[9], head[10]])) == options.len()
}

/// The name that is asked for, without a dot at the end; `None` if it has other bytes than those of
/// host names.
pub(super) fn name(query: &[u8]) -> Option<String> {
    let length = name_length(query.get(HEADER..)?)?;
    let mut labels = Vec::new();
    let mut rest = &query[HEADER..HEADER + length];
    while let Some((&label, behind)) = rest.split_first().filter(|(label, _)| **label > 0) {
        let (label, behind) = behind.split_at_checked(usize::from(label))?;
        let is_of_a_host = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        labels.push(
            std::str::from_utf8(label).ok().filter(|label| label.bytes().all(|byte| is_of_a_host(&byte)))?,
        );
        rest = behind;
    }
    Some(labels.join("."))
}

/// Type of the record that is asked for; 0 of what is no question.
pub(super) fn record_type(query: &[u8]) -> u16 {
    only_question(query).map_or(0, |(record_type, _)| record_type)
}

fn is_response(message: &[u8]) -> bool {
    message[2] & 0x80 != 0
}

/// Whether `message` is a response with the query's transaction id.
pub(super) fn answers(message: &[u8], query: &[u8]) -> bool {
    message.len() >= HEADER && is_response(message) && message[..2] == query[..2]
}

/// The answer to a message of at least [`HEADER`] bytes, with this code and no records. The
/// question is repeated if it is one that could be asked.
pub(super) fn without_records(query: &[u8], code: u8) -> Vec<u8> {
    let question = match only_question(query) {
        Some(_) => HEADER + name_length(&query[HEADER..]).map_or(0, |name| name + 4),
        None => HEADER,
    };
    let mut answer = query[..question].to_vec();
    answer[2] |= 0x80;
    answer[3] = (answer[3] & 0x10) | 0x80 | code;
    answer[4..HEADER].fill(0);
    answer[5] = u8::from(question > HEADER);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with this opcode, these counts and these bytes behind the header.
    fn message(opcode: u8, counts: [u8; 4], rest: &[u8]) -> Vec<u8> {
        let [questions, answers, authorities, additional] = counts;
        let header =
            [0xab, 0xcd, opcode << 3 | 1, 0x20, 0, questions, 0, answers, 0, authorities, 0, additional];
        [&header, rest].concat()
    }

    /// A question for `a`.
    fn question(record_type: u16, class: u16) -> Vec<u8> {
        [&[1, b'a', 0][..], &record_type.to_be_bytes(), &class.to_be_bytes()].concat()
    }

    #[test]
    fn questions_for_records_are_passed_on() {
        let edns = [&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4][..], &[0, 10, 0, 0]].concat();
        for record_type in [1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 43, 48, 52, 64, 65, 257, 65_280] {
            let question = question(record_type, 1);
            assert_eq!(judge(&message(0, [1, 0, 0, 0], &question)), Verdict::Ask, "{record_type}");
            let extended = [question, edns.clone()].concat();
            assert_eq!(judge(&message(0, [1, 0, 0, 1], &extended)), Verdict::Ask, "{record_type}");
        }
    }

    #[test]
    fn everything_but_a_question_of_class_in_is_refused() {
        for opcode in 1..16 {
            let other = message(opcode, [1, 0, 0, 0], &question(6, 1));
            assert_eq!(judge(&other), Verdict::Answer(NOT_IMPLEMENTED), "{opcode}");
        }
        // TKEY, TSIG, IXFR, AXFR, MAILB, MAILA, ANY.
        for record_type in [0, 41, 128, 249, 250, 251, 252, 253, 254, 255] {
            let transfer = message(0, [1, 0, 0, 0], &question(record_type, 1));
            assert_eq!(judge(&transfer), Verdict::Answer(REFUSED), "{record_type}");
        }
        for class in [0, 2, 3, 4, 254, 255] {
            let other = message(0, [1, 0, 0, 0], &question(1, class));
            assert_eq!(judge(&other), Verdict::Answer(REFUSED), "{class}");
        }
    }

    #[test]
    fn the_name_of_a_question_is_read_if_it_is_one_of_a_host() {
        let asked = |labels: &[u8]| {
            let question = [labels, &[0, 0, 1, 0, 1]].concat();
            name(&message(0, [1, 0, 0, 0], &question))
        };
        assert_eq!(asked(b"\x04Pypi\x03org").as_deref(), Some("Pypi.org"));
        assert_eq!(asked(b"").as_deref(), Some(""));
        for hidden in [&b"\x05a.org"[..], b"\x02\xc3\xbc\x03org", b"\x01\0\x03org", b"\x03a b"] {
            assert_eq!(asked(hidden), None, "{hidden:?}");
        }
        assert_eq!(name(&[0; 5]), None);
        assert_eq!(record_type(&message(0, [1, 0, 0, 0], &question(65, 1))), 65);
    }

    #[test]
    fn malformed_queries_are_told_so() {
        let one = question(1, 1);
        let two = one.repeat(2);
        let pointer = [0xc0, 12, 0, 1, 0, 1];
        let long_name = [[&[63][..], &[b'a'; 63]].concat().repeat(4), vec![0, 0, 1, 0, 1]].concat();
        let tsig = [&one[..], &[0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0]].concat();
        for (counts, rest) in [
            ([0, 0, 0, 0], &one[..]),
            ([2, 0, 0, 0], &two),
            ([1, 0, 0, 0], &two),
            ([1, 1, 0, 0], &two),
            ([1, 0, 1, 0], &two),
            ([1, 0, 0, 2], &two),
            ([1, 0, 0, 1], &tsig),
            ([1, 0, 0, 1], &one),
            ([1, 0, 0, 0], &one[..6]),
            ([1, 0, 0, 0], &[]),
            ([1, 0, 0, 0], &pointer),
            ([1, 0, 0, 0], &long_name),
        ] {
            assert_eq!(
                judge(&message(0, counts, rest)),
                Verdict::Answer(FORMAT_ERROR),
                "{counts:?} {rest:?}"
            );
        }
        let too_long = [&one[..], &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0x10, 0], &[0; 4096]].concat();
        assert_eq!(judge(&message(0, [1, 0, 0, 1], &too_long)), Verdict::Answer(FORMAT_ERROR));
        assert_eq!(judge(&[0; 11]), Verdict::Ignore);
        let mut response = message(0, [1, 0, 0, 0], &one);
        response[2] |= 0x80;
        assert_eq!(judge(&response), Verdict::Ignore);
    }

    #[test]
    fn an_answer_without_records_keeps_id_and_question() {
        let query = message(0, [1, 0, 0, 0], &question(1, 1));
        let answer = without_records(&query, SERVER_FAILURE);
        assert!(answers(&answer, &query));
        assert_eq!((answer[2], answer[3]), (0x81, 0x82));
        assert_eq!(answer[4..], query[4..]);
        let update = message(5, [1, 1, 1, 1], b"whatever");
        assert_eq!(without_records(&update, 4), [0xab, 0xcd, 0xa9, 0x84, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn fuzz_dns_messages() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let plain = message(0, [1, 0, 0, 0], bytes);
            let extended = message(0, [1, 0, 0, 1], bytes);
            for message in [bytes, &plain, &extended] {
                match judge(message) {
                    Verdict::Ignore => assert!(message.len() < HEADER || is_response(message)),
                    Verdict::Ask => assert_eq!(message[2] & 0xf8, 0),
                    Verdict::Answer(code) => {
                        let answer = without_records(message, code);
                        assert!(answers(&answer, message) && answer.len() <= message.len());
                    }
                }
            }
        });
    }
}
