//! Requests that the endpoint refuses for their number are sent again when it says
//! that they may be.
//!
//! A page of a development server is hundreds of modules, each a request; a browser takes a refusal
//! for the module's end.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Request, Response, StatusCode, request};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body as _, Incoming};

use super::Body;

/// Longest body of which a copy is kept, in bytes.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// For how long a request is sent again.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// What is waited when the endpoint names no time, and at most.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// What the endpoint's own refusals carry.
const PROXY_ERROR: &str = "x-aws-proxy-error";

/// A request that can be sent several times, if its body is short enough to be kept.
pub(super) enum Repeatable {
    Whole(Box<request::Parts>, Bytes),
    Once(Option<Box<Request<Incoming>>>),
}

impl Repeatable {
    /// Reads a short body.
    pub(super) async fn of(request: Request<Incoming>) -> anyhow::Result<Self> {
        let is_short = request.body().size_hint().upper().is_some_and(|length| length <= BODY_BYTES_MAX);
        if !is_short {
            return Ok(Self::Once(Some(Box::new(request))));
        }
        let (parts, body) = request.into_parts();
        let body = body.collect().await.context("the request broke off")?.to_bytes();
        Ok(Self::Whole(Box::new(parts), body))
    }

    /// The request, if it can be sent once more.
    pub(super) fn next(&mut self) -> Option<Request<Body>> {
        match self {
            Self::Whole(parts, body) => {
                Some(Request::from_parts((**parts).clone(), Either::Right(Full::new(body.clone()))))
            }
            Self::Once(request) => request.take().map(|request| request.map(Either::Left)),
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(..))
    }
}

/// How long to wait before the request is sent again; `None` if this is an answer.
pub(super) fn wait_before_retry<B>(response: &Response<B>) -> Option<Duration> {
    let is_of_endpoint = response.headers().contains_key(PROXY_ERROR);
    if response.status() != StatusCode::TOO_MANY_REQUESTS || !is_of_endpoint {
        return None;
    }
    let named = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Some(named.map_or(PAUSE, Duration::from_secs).min(PAUSE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_of_the_endpoint_are_waited_for() {
        let waits = |status: u16, fields: &[(&str, &str)]| {
            let builder = Response::builder().status(status);
            let builder = fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
            wait_before_retry(&builder.body(()).unwrap())
        };
        let own = (PROXY_ERROR, "TOO_MANY_REQUESTS");
        assert_eq!(waits(429, &[own, ("retry-after", "2")]), Some(Duration::from_secs(2)));
        assert_eq!(waits(429, &[own]), Some(PAUSE));
        assert_eq!(waits(429, &[own, ("retry-after", "86400")]), Some(PAUSE_MAX));
        assert_eq!(waits(429, &[("retry-after", "2")]), None, "the app's own");
        assert_eq!(waits(502, &[own]), None);
    }
}
