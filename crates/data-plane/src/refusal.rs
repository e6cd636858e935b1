//! The answers that the endpoint gives by itself, in the words of the service where it has
//! any (docs/endpoint.md, "Errors").

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;

/// Header that names the cause.
const PROXY_ERROR: HeaderName = HeaderName::from_static("x-aws-proxy-error");
/// What a client is told to wait, in seconds: about as long as a resume takes, and not
/// less than a rate needs.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Why a request was not forwarded, or its answer not returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request itself, its port header or its subprotocols are malformed.
    BadRequest,
    /// It has too many fields.
    HeadTooLarge,
    /// No token, or text that is none.
    TokenMissing,
    /// A token that does not open this endpoint now, or a host that is no endpoint.
    TokenRejected,
    /// The token opens other ports.
    PortDenied,
    /// The microVM has as many connections, requests or waiting requests as are allowed.
    TooManyRequests,
    /// This server cannot serve it now, for want of descriptors or memory.
    Internal,
    /// The microVM is suspended, terminated or does not answer.
    MicrovmUnreachable,
    /// Nothing listens on the port, or what listens does not speak HTTP.
    AppUnreachable,
}

impl Refusal {
    /// Status, code and body. The codes of 400, 429, 431 and 500 are ours: none was ever recorded.
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "BAD_REQUEST", "Bad request"),
            Self::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "HEADERS_TOO_LARGE",
                "Request header fields too large",
            ),
            Self::TokenMissing => (StatusCode::FORBIDDEN, "UNAUTHORIZED", "Request missing authentication"),
            Self::TokenRejected => (StatusCode::FORBIDDEN, "UNAUTHORIZED", "Token authentication failed"),
            Self::PortDenied => (StatusCode::FORBIDDEN, "UNAUTHORIZED", "Access to port denied"),
            Self::TooManyRequests => {
                (StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", "Too many requests")
            }
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "Internal error"),
            Self::MicrovmUnreachable => (StatusCode::BAD_GATEWAY, "MICROVM_CONNECT_FAILED", ""),
            Self::AppUnreachable => (StatusCode::BAD_GATEWAY, "APP_CONNECT_FAILED", ""),
        }
    }

    /// For the access log.
    pub(crate) fn status_and_code(self) -> (StatusCode, &'static str) {
        let (status, code, _) = self.parts();
        (status, code)
    }

    /// What the client gets. The answer to a HEAD has the length of a body and none: over HTTP/2
    /// that is not seen to by hyper.
    pub(crate) fn response(self, is_to_head: bool) -> Response<Full<Bytes>> {
        let (status, code, body) = self.parts();
        let sent = if is_to_head { "" } else { body };
        let mut response = Response::new(Full::new(Bytes::from_static(sent.as_bytes())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(PROXY_ERROR, HeaderValue::from_static(code));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        if self == Self::TooManyRequests {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }
}
