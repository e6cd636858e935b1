//! Messages of `application/vnd.amazon.eventstream` ("Amazon Event Stream specification", Smithy):
//! lengths, headers, payload, and a CRC-32 of each part.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Header value of the type string.
const STRING: u8 = 7;
/// Lengths and checksums around headers and payload.
const FRAME_BYTES: usize = 16;

/// A message that carries an event.
pub(super) fn event(kind: &str, payload: &[u8]) -> Bytes {
    message(
        &[(":message-type", "event"), (":event-type", kind), (":content-type", "application/json")],
        payload,
    )
}

/// A message that ends a stream with an error of the model.
pub(super) fn exception(kind: &str, message_text: &str) -> Bytes {
    let payload = serde_json::json!({ "message": message_text }).to_string();
    let headers =
        [(":message-type", "exception"), (":exception-type", kind), (":content-type", "application/json")];
    message(&headers, payload.as_bytes())
}

fn message(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let mut encoded = BytesMut::new();
    for (name, value) in headers {
        encoded.put_u8(name.len() as u8);
        encoded.put_slice(name.as_bytes());
        encoded.put_u8(STRING);
        encoded.put_u16(value.len() as u16);
        encoded.put_slice(value.as_bytes());
    }
    let total = FRAME_BYTES + encoded.len() + payload.len();
    let mut frame = BytesMut::with_capacity(total);
    frame.put_u32(total as u32);
    frame.put_u32(encoded.len() as u32);
    frame.put_u32(crc32fast::hash(&frame));
    frame.put_slice(&encoded);
    frame.put_slice(payload);
    frame.put_u32(crc32fast::hash(&frame));
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_without_headers_and_payload_is_that_of_the_specification() {
        let expected = [0, 0, 0, 16, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        assert_eq!(message(&[], b"")[..], expected);
    }

    #[test]
    fn lengths_and_headers_are_where_they_belong() {
        let bytes = event("sessionUpdate", b"{}");
        assert_eq!(u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len());
        let headers = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
        assert_eq!(&bytes[12 + headers..bytes.len() - 4], b"{}");
        assert_eq!(&bytes[12..12 + 25], b"\x0d:message-type\x07\0\x05event\x0b:e");
    }
}
