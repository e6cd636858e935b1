//! The canonical request: the text that both sides hash.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode, utf8_percent_encode};

use super::SignedRequest;

/// RFC 3986 unreserved characters stay as they are.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &STRICT.remove(b'/');

/// How the service at hand encodes the path once more for signing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathEncoding {
    /// S3: encoded once.
    Single,
    /// Every other service: the encoded path is encoded again.
    Double,
}

/// See [`PathEncoding::candidates`].
#[derive(Debug, Clone, Copy)]
enum Spelling {
    Usual,
    Other,
}

impl PathEncoding {
    pub(super) fn of_service(service: &str) -> Self {
        if service == "s3" { Self::Single } else { Self::Double }
    }

    /// The spellings of the path that a well-behaved client may have signed: the one on the wire,
    /// and the one with every reserved character encoded (clients differ on `:` in ARNs). Both
    /// decode to the same path. The usual one of the service comes first.
    pub(super) fn candidates(self, wire_path: &str) -> impl Iterator<Item = String> {
        let encoded =
            || percent_encode(&percent_decode_str(wire_path).collect::<Vec<u8>>(), PATH).to_string();
        [Spelling::Usual, Spelling::Other].into_iter().map(move |spelling| match (self, spelling) {
            (Self::Single, Spelling::Usual) => encoded(),
            (Self::Single, Spelling::Other) => wire_path.to_owned(),
            (Self::Double, Spelling::Usual) => utf8_percent_encode(wire_path, PATH).to_string(),
            (Self::Double, Spelling::Other) => utf8_percent_encode(&encoded(), PATH).to_string(),
        })
    }
}

/// Builds the canonical request. `signed_headers` are lower-case, different, and in the
/// order of the claim; a header that the request does not have counts as empty, so its
/// signature cannot match.
pub(super) fn canonical_request(
    request: &SignedRequest<'_>,
    canonical_path: &str,
    signed_headers: &[String],
    payload_hash: &str,
) -> String {
    let mut headers = String::new();
    for name in signed_headers {
        headers.extend([name, ":", &canonical_header_value(request, name), "\n"]);
    }
    let path = if canonical_path.is_empty() { "/" } else { canonical_path };
    format!(
        "{}\n{path}\n{}\n{headers}\n{}\n{payload_hash}",
        request.method,
        canonical_query(request.query),
        signed_headers.join(";"),
    )
}

/// Sorted, strictly encoded parameters without the signature itself.
fn canonical_query(query: &str) -> String {
    let encode =
        |text: &str| percent_encode(&percent_decode_str(text).collect::<Vec<u8>>(), STRICT).to_string();
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| *name != "X-Amz-Signature")
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// All values of a header, trimmed, inner runs of spaces made one, joined by commas.
fn canonical_header_value(request: &SignedRequest<'_>, name: &str) -> String {
    let values: Vec<String> = request
        .headers
        .iter()
        .filter(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
        .map(|(_, value)| {
            String::from_utf8_lossy(value)
                .split(' ')
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    values.join(",")
}
