//! AWS Signature Version 4 ("AWS Signature Version 4 for API requests", IAM user guide):
//! verification of the header and the presigned form, and signing for our own client.

mod canonical;
mod claim;
mod coverage;
pub mod credentials;
mod denial;
mod sign;
mod signing_key;
mod verify;

#[cfg(test)]
mod tests;

pub use claim::{claimed_access_key, claimed_service};
pub use coverage::{header_names, refuse_signed_headers, signed_headers, unsigned_header};
pub use denial::Denial;
pub use sign::{Scope, sign};
pub use signing_key::SigningKeys;
pub use verify::{Identity, check_head, check_scope, check_token, verify};

use aws_lc_rs::{digest, hmac};

/// The parts of a request that a signature covers, as they were on the wire.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// `GET`, `POST` and so on.
    pub method: &'a str,
    /// Path, still percent-encoded.
    pub path: &'a str,
    /// Query string without `?`, still percent-encoded; empty when there is none.
    pub query: &'a str,
    /// All headers in order; names in any case.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The whole body.
    pub body: &'a [u8],
}

impl<'a> SignedRequest<'a> {
    /// First header of this name as text.
    fn header(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.headers.iter().find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }
}

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
const TERMINATOR: &str = "aws4_request";
/// Form of `X-Amz-Date`.
const AMZ_DATE: &str = "%Y%m%dT%H%M%SZ";

/// SHA-256 as S3 and signatures write it: in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// The signature of `canonical_request` as hex. `date` is the first eight characters of `amz_date`.
fn signature(
    key: &hmac::Key,
    scope: &claim::ScopeRef<'_>,
    amz_date: &str,
    canonical_request: &str,
) -> String {
    let request_hash = sha256_hex(canonical_request.as_bytes());
    let string_to_sign = format!("{ALGORITHM}\n{amz_date}\n{scope}\n{request_hash}");
    hex::encode(hmac::sign(key, string_to_sign.as_bytes()))
}
