//! How much a request's head may be.
//!
//! The HTTP libraries hold to most of it while they read, before there is a request to answer in
//! the endpoint's own form.

use http::header::COOKIE;
use http::{HeaderMap, Version};

use crate::refusal::Refusal;

/// Longest head, in bytes: over HTTP/1.1 the request line and all fields as they are sent, over
/// HTTP/2 the list of fields as RFC 9113 counts it (section 6.5.2), with 32 more for each. A token
/// may have 8,000 characters.
pub(crate) const HEAD_BYTES_MAX: u32 = 64 * 1024;

/// Most fields. hyper's own limit for HTTP/1.1: to say so would cost an allocation
/// for each request.
const FIELDS_MAX: usize = 100;

/// Refuses more fields than an app is sent over either protocol. Browsers send each cookie in
/// a field of its own over HTTP/2 (RFC 9113, section 8.2.3); together they count as the one
/// field that the app gets.
pub(crate) fn check(headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    let mut fields = headers.len();
    if fields > FIELDS_MAX && version == Version::HTTP_2 {
        fields -= headers.get_all(COOKIE).iter().count().saturating_sub(1);
    }
    if fields > FIELDS_MAX { Err(Refusal::HeadTooLarge) } else { Ok(()) }
}
