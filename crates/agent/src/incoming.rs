//! Reads the requests of a connection.
//!
//! The first thing a restored guest does is to read a `Restored` and then a `Forward` frame, and an
//! emulator has to translate every instruction on that path. So these two are recognized by their
//! exact bytes before a JSON parser is asked.

use std::io::{self, Read};
use std::net::TcpStream;
use std::ops::Range;

use hearth_guest_protocol::Request;
use hearth_guest_protocol::codec::frame_length;

/// What arrived and has not been used: the range `pending` of the buffer.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) buffer: &'a mut [u8],
    pub(crate) pending: Range<usize>,
}

impl<'a> Incoming<'a> {
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, pending: 0..0 }
    }

    /// The next request, or `None` when the host has closed the connection in between.
    pub(crate) fn next(&mut self, peer: &mut TcpStream) -> io::Result<Option<Request>> {
        self.buffer.copy_within(self.pending.clone(), 0);
        self.pending = 0..self.pending.len();
        while self.pending.end < 4 {
            if self.receive(peer)? == 0 {
                return if self.pending.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
        let prefix = [self.buffer[0], self.buffer[1], self.buffer[2], self.buffer[3]];
        let end = 4 + frame_length(prefix)?;
        if end > self.buffer.len() {
            let mut body = self.buffer[4..self.pending.end].to_vec();
            self.pending = 0..0;
            let received = body.len();
            body.resize(end - 4, 0);
            peer.read_exact(&mut body[received..])?;
            return parse(&body).map(Some);
        }
        while self.pending.end < end {
            if self.receive(peer)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.pending.start = end;
        parse(&self.buffer[4..end]).map(Some)
    }

    fn receive(&mut self, peer: &mut TcpStream) -> io::Result<usize> {
        let length = peer.read(&mut self.buffer[self.pending.end..])?;
        self.pending.end += length;
        Ok(length)
    }
}

fn parse(body: &[u8]) -> io::Result<Request> {
    match parse_forward(body).or_else(|| parse_restored(body)) {
        Some(request) => Ok(request),
        None => Ok(serde_json::from_slice(body)?),
    }
}

fn parse_forward(body: &[u8]) -> Option<Request> {
    let (port, rest) = digits(body.strip_prefix(br#"{"op":"forward","port":"#)?);
    (rest == b"}").then_some(())?;
    Some(Request::Forward { port: u16::try_from(port?).ok()? })
}

fn parse_restored(body: &[u8]) -> Option<Request> {
    let (unix_nanos, rest) = digits(body.strip_prefix(br#"{"op":"restored","unix_nanos":"#)?);
    let entropy = rest.strip_prefix(br#","entropy":""#)?.strip_suffix(br#""}"#)?;
    entropy.iter().all(u8::is_ascii_hexdigit).then_some(())?;
    Some(Request::Restored { unix_nanos: unix_nanos?, entropy: String::from_utf8(entropy.to_vec()).ok()? })
}

/// The decimal number at the start (`None` when there is none or it is too long), and the rest.
fn digits(text: &[u8]) -> (Option<u64>, &[u8]) {
    let mut number = Some(0_u64);
    let mut length = 0;
    while let Some(digit) = text.get(length).filter(|byte| byte.is_ascii_digit()) {
        number = number.and_then(|n| n.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        length += 1;
    }
    (if length == 0 { None } else { number }, &text[length..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_guest_protocol::codec::encode;

    #[test]
    fn the_short_cuts_read_what_the_host_writes() {
        let forward = Request::Forward { port: 65535 };
        assert_eq!(parse_forward(&encode(&forward).unwrap()[4..]), Some(forward));
        let restored =
            Request::Restored { unix_nanos: 1_900_000_000_123_456_789, entropy: "0aff".repeat(16) };
        assert_eq!(parse_restored(&encode(&restored).unwrap()[4..]), Some(restored));
    }

    #[test]
    fn anything_else_goes_to_the_json_parser() {
        assert_eq!(parse(br#"{"port": 80, "op": "forward"}"#).unwrap(), Request::Forward { port: 80 });
        assert_eq!(parse(br#"{"op":"hello"}"#).unwrap(), Request::Hello);
        assert!(parse(br#"{"op":"forward","port":65536}"#).is_err());
        assert!(parse(br#"{"op":"forward","port":}"#).is_err());
        assert!(parse(br#"{"op":"restored","unix_nanos":99999999999999999999,"entropy":""}"#).is_err());
    }

    /// A connection on which the host has sent `wire` and closed its direction.
    fn connection_with(wire: &[u8]) -> TcpStream {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        io::Write::write_all(&mut client, wire).unwrap();
        listener.accept().unwrap().0
    }

    #[test]
    fn requests_follow_each_other_and_bytes_behind_a_frame_are_kept() {
        let forward = Request::Forward { port: 1 };
        let wire = [encode(&Request::Hello).unwrap(), encode(&forward).unwrap(), b"GET /".to_vec()].concat();
        let mut peer = connection_with(&wire);
        let mut buffer = [0; 64];
        let mut incoming = Incoming::new(&mut buffer);
        assert_eq!(incoming.next(&mut peer).unwrap(), Some(Request::Hello));
        assert_eq!(incoming.next(&mut peer).unwrap(), Some(forward));
        while incoming.pending.len() < 5 {
            incoming.receive(&mut peer).unwrap();
        }
        assert_eq!(&incoming.buffer[incoming.pending], b"GET /");
    }

    #[test]
    fn the_end_between_frames_is_no_error_and_inside_one_it_is() {
        let wire = encode(&Request::Hello).unwrap();
        let mut buffer = [0; 64];
        let mut peer = connection_with(&wire);
        let mut incoming = Incoming::new(&mut buffer);
        assert_eq!(incoming.next(&mut peer).unwrap(), Some(Request::Hello));
        assert_eq!(incoming.next(&mut peer).unwrap(), None);
        let mut peer = connection_with(&wire[..7]);
        assert!(Incoming::new(&mut buffer).next(&mut peer).is_err());
    }

    #[test]
    fn a_frame_longer_than_the_buffer_is_read_whole() {
        let body = "x".repeat(1000);
        let request = Request::Hook { port: 1, path: "/".into(), body, timeout_ms: 1 };
        let mut peer = connection_with(&encode(&request).unwrap());
        assert_eq!(Incoming::new(&mut [0; 64]).next(&mut peer).unwrap(), Some(request));
    }
}
