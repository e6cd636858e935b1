//! Where in a microVM a request goes, and the form that it has on the way there.

use http::header::{HOST, TE, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri, Version};
use hyper::body::Body as _;

use crate::layer::{AppProtocol, Layer};
use crate::refusal::Refusal;
use crate::request_body::AppBody;

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// What the app prefers, if it has a way to say so: with TLS. HTTP/1.1 without.
    Any,
    /// For what becomes of a connection of HTTP/1.1 only.
    Http1,
    Http2,
}

impl Wanted {
    /// What is spoken on a port.
    pub(crate) fn on(self, layer: Option<Layer>) -> AppProtocol {
        match (self, layer) {
            (Self::Http2, _) => AppProtocol::Http2,
            (Self::Any, Some(Layer::Tls(preferred))) => preferred,
            (Self::Any | Self::Http1, _) => AppProtocol::Http1,
        }
    }
}

/// Where a request goes, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'request> {
    pub(crate) port: u16,
    pub(crate) wanted: Wanted,
    /// The endpoint, as the client calls it.
    pub(crate) authority: &'request Authority,
}

/// Gives a request the form that it has on a connection to the app.
pub(crate) fn address(
    request: &mut Request<AppBody>,
    authority: &Authority,
    protocol: AppProtocol,
    layer: Option<Layer>,
) -> Result<(), Refusal> {
    let has_length = request.body().is_end_stream() || request.body().size_hint().exact().is_some();
    let uri = std::mem::take(request.uri_mut()).into_parts();
    let target = uri.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let headers = request.headers_mut();
    match protocol {
        AppProtocol::Http1 => {
            let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::BadRequest)?;
            headers.insert(HOST, host);
            headers.remove(TE);
            if !has_length {
                // Otherwise a GET would lose its body.
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            *request.uri_mut() = Uri::from(target);
            *request.version_mut() = Version::HTTP_11;
        }
        AppProtocol::Http2 => {
            headers.remove(HOST);
            headers.remove(TRANSFER_ENCODING);
            let is_secured = matches!(layer, Some(Layer::Tls(_)));
            let mut uri = http::uri::Parts::default();
            uri.scheme = Some(if is_secured { Scheme::HTTPS } else { Scheme::HTTP });
            uri.authority = Some(authority.clone());
            uri.path_and_query = Some(target);
            *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Refusal::BadRequest)?;
            *request.version_mut() = Version::HTTP_2;
        }
    }
    Ok(())
}

/// A copy of a request that may be sent twice.
pub(crate) fn repeatable(request: &Request<AppBody>) -> Option<Request<AppBody>> {
    if !request.method().is_idempotent() || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(AppBody::none());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
