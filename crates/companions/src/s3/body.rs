//! Bodies on their way to `s3s`, which takes one that is not as it was signed for a fault of the service.

use std::sync::{Arc, OnceLock};

use axum::body::Body;
use bytes::Bytes;
use futures::TryStreamExt as _;
use hearth_auth::sigv4::sha256_hex;
use hearth_identity::{Intake, SourceAddress};
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use super::chunks;

/// Bodies up to this length are read and checked here, longer ones as they are stored. The longest document, a
/// CompleteMultipartUpload of 10,000 parts with checksums, has some 3 MB.
const SMALL_BYTES: u64 = 4 << 20;
/// Longest document of an operation that has no limit of its own. So long ones are kept, for
/// operations whose document `s3s` does not know in full.
pub(super) const DOCUMENT_BYTES: usize = 128 << 10;

/// Why a body was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoiled {
    /// It ended before its `Content-Length`.
    Incomplete,
    /// It does not have the hash of `x-amz-content-sha256`.
    Mismatch,
    /// A signed chunk of it is longer than can be checked.
    LongChunk,
    /// A long signed chunk of it found no room.
    Busy,
    /// A long signed chunk of it came too slowly.
    Slow,
}

impl Spoiled {
    /// Status of S3's answer.
    pub(crate) fn status(self) -> StatusCode {
        if self == Self::Busy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST }
    }

    /// Body of S3's answer.
    pub(crate) fn to_xml(self) -> String {
        let (code, message) = match self {
            Self::Incomplete => ("IncompleteBody", "The body of the request ended early."),
            Self::Mismatch => (
                "XAmzContentSHA256Mismatch",
                "The body of the request does not have the hash that x-amz-content-sha256 gives.",
            ),
            Self::LongChunk => {
                ("InvalidRequest", "A signed chunk of the body is longer than 16 MiB; send shorter ones.")
            }
            Self::Busy => ("SlowDown", "Too many long chunks are being received; please try again later."),
            Self::Slow => ("RequestTimeout", "A chunk of the body came too slowly and was cut off."),
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        )
    }
}

/// Why a long body broke off while `s3s` read it, if it did.
#[derive(Debug, Clone, Default)]
pub(crate) struct BrokeOff(Arc<OnceLock<Spoiled>>);

impl BrokeOff {
    pub(crate) fn get(&self) -> Option<Spoiled> {
        self.0.get().copied()
    }
}

/// The body of a request that is a short document or an object, in the extensions of the request.
#[derive(Debug, Clone)]
pub(super) struct Document(pub(super) Bytes);

/// Makes a body for `s3s`: a small one is read and checked first.
pub(crate) async fn prepare(
    parts: &mut Parts,
    body: Body,
    intake: &Arc<Intake>,
) -> Result<(s3s::Body, BrokeOff), Spoiled> {
    let broke_off = BrokeOff::default();
    let length =
        parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length <= SMALL_BYTES) {
        let bytes = intake.read(parts, body, SMALL_BYTES as usize).await.map_err(|_| Spoiled::Incomplete)?.0;
        return match signed_hash(parts) {
            Some(hash) if hash != sha256_hex(&bytes) => Err(Spoiled::Mismatch),
            _ => {
                if bytes.len() <= DOCUMENT_BYTES {
                    parts.extensions.insert(Document(bytes.clone()));
                }
                Ok((s3s::Body::from(bytes), broke_off))
            }
        };
    }
    let noted = broke_off.clone();
    let note = move |spoiled: Spoiled| {
        // Nothing comes after the first.
        let _ = noted.0.set(spoiled);
        std::io::Error::other("the body is spoiled")
    };
    if is_in_chunks(parts) {
        let source = parts.extensions.get::<SourceAddress>().map(|source| source.ip());
        let pieces = chunks::bounded(body.into_data_stream(), Arc::clone(intake), source);
        let body = StreamBody::new(pieces.map_err(note).map_ok(Frame::data));
        return Ok((s3s::Body::http_body_unsync(body), broke_off));
    }
    let body = body.map_err(move |_| note(Spoiled::Incomplete));
    Ok((s3s::Body::http_body_unsync(body), broke_off))
}

fn is_in_chunks(parts: &Parts) -> bool {
    let hash = parts.headers.get("x-amz-content-sha256");
    hash.is_some_and(|hash| hash.as_bytes().starts_with(b"STREAMING-"))
}

/// In place of a body that is left where it is.
pub(crate) fn unread() -> (s3s::Body, BrokeOff) {
    (s3s::Body::empty(), BrokeOff::default())
}

/// The hash of the whole body that was signed; the header may also say that there is none, or one of each chunk.
fn signed_hash(parts: &Parts) -> Option<&str> {
    const HEX_DIGITS: usize = 64;
    let value = parts.headers.get("x-amz-content-sha256")?.to_str().ok()?;
    (value.len() == HEX_DIGITS && value.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(value)
}
