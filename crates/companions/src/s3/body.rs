//! Bodies on their way to `s3s`, which takes one that is not as it was signed for a fault of the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use hearth_auth::sigv4::sha256_hex;
use hearth_identity::Intake;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body_util::BodyExt as _;

/// Bodies up to this length are read and checked here, longer ones as they are stored. The longest document, a
/// CompleteMultipartUpload of 10,000 parts with checksums, has some 3 MB.
const SMALL_BYTES: u64 = 4 << 20;

/// Why a body was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoiled {
    /// It ended before its `Content-Length`.
    Incomplete,
    /// It does not have the hash of `x-amz-content-sha256`.
    Mismatch,
}

impl Spoiled {
    /// Body of S3's answer.
    pub(crate) fn to_xml(self) -> String {
        let (code, message) = match self {
            Self::Incomplete => ("IncompleteBody", "The body of the request ended early."),
            Self::Mismatch => (
                "XAmzContentSHA256Mismatch",
                "The body of the request does not have the hash that x-amz-content-sha256 gives.",
            ),
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        )
    }
}

/// Whether a long body broke off while `s3s` read it.
#[derive(Debug, Clone, Default)]
pub(crate) struct BrokeOff(Arc<AtomicBool>);

impl BrokeOff {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes a body for `s3s`: a small one is read and checked first.
pub(crate) async fn prepare(
    parts: &Parts,
    body: Body,
    intake: &Intake,
) -> Result<(s3s::Body, BrokeOff), Spoiled> {
    let broke_off = BrokeOff::default();
    let length =
        parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length <= SMALL_BYTES) {
        let bytes = intake.read(parts, body, SMALL_BYTES as usize).await.map_err(|_| Spoiled::Incomplete)?.0;
        return match signed_hash(parts) {
            Some(hash) if hash != sha256_hex(&bytes) => Err(Spoiled::Mismatch),
            _ => Ok((s3s::Body::from(bytes), broke_off)),
        };
    }
    let noted = broke_off.clone();
    let body = body.map_err(move |error| {
        noted.0.store(true, Ordering::Relaxed);
        error
    });
    Ok((s3s::Body::http_body_unsync(body), broke_off))
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
