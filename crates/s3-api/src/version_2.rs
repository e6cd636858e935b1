//! Signature version 2, which boto3 still uses for presigned URLs unless it is told
//! otherwise. `s3s` verifies it.

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use s3s::{S3Result, s3_error};

use super::access::TOKEN;

/// A presigned URL has the session token among its parameters, and what was signed has it as a
/// header, where `s3s` looks for it.
pub(crate) fn move_token(parts: &mut Parts) {
    let query = parts.uri.query().unwrap_or_default();
    let parameter = |name: &str| {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(candidate, _)| candidate == name).map(|(_, value)| value.into_owned())
    };
    if parameter("AWSAccessKeyId").is_none() || parts.headers.contains_key(TOKEN) {
        return;
    }
    if let Some(token) = parameter(TOKEN).and_then(|token| HeaderValue::try_from(token).ok()) {
        parts.headers.insert(TOKEN, token);
    }
}

/// The access key of a presigned URL.
pub(crate) fn access_key(query: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "AWSAccessKeyId").map(|(_, value)| value.into_owned())
}

/// Whether the time of a presigned URL is over; `None` for another request.
pub(crate) fn is_expired(query: &str, now: jiff::Timestamp) -> Option<bool> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let expires = pairs.find(|(name, _)| name == "Expires")?.1.parse::<i64>().ok()?;
    access_key(query).map(|_| now > jiff::Timestamp::from_second(expires).unwrap_or(jiff::Timestamp::MAX))
}

/// Refuses the form in a header, as S3 does for buckets made since 2020: its date is not bound to
/// be a recent one, so whoever saw such a request could send it for ever.
pub(super) fn check_header(headers: &HeaderMap) -> S3Result<()> {
    match headers.get(AUTHORIZATION) {
        Some(value) if !value.as_bytes().starts_with(b"AWS4-") => Err(s3_error!(
            InvalidRequest,
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_of(uri: &str) -> Option<String> {
        let (mut parts, ()) = http::Request::builder().uri(uri).body(()).unwrap().into_parts();
        move_token(&mut parts);
        parts.headers.get(TOKEN).map(|token| token.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_presigned_urls_of_version_2_are_changed() {
        let token = token_of("/b/k?AWSAccessKeyId=A&Signature=s&x-amz-security-token=a%2Bb");
        assert_eq!(token.as_deref(), Some("a+b"));
        assert_eq!(token_of("/b/k?AWSAccessKeyId=A&Signature=s"), None);
        assert_eq!(token_of("/b/k?X-Amz-Signature=s&x-amz-security-token=t"), None);
    }
}
