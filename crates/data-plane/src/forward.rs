//! Passes one request to the app and its answer back.

use std::sync::Arc;

use bytes::Bytes;
use hearth_node::{Life as _, Node, Passing};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use http_body_util::Full;

use crate::admit::PROXY_AUTH;
use crate::answer_body::AnswerBody;
use crate::app::Failure;
use crate::call::Call;
use crate::client::Client;
use crate::reach::{Reached, Way};
use crate::refusal::Refusal;
use crate::request_body::AppBody;
use crate::route::PROXY_PORT;
use crate::shared::Shared;
use crate::subprotocol::ForApp;
use crate::switch::{Switch, tunnel};
use crate::target::Wanted;

/// Beginning of the names of fields that are for the endpoint only.
const PROXY_PREFIX: &str = "x-aws-proxy-";
/// Header that asks for HTTP/2 to the app.
const FORCE_H2: HeaderName = HeaderName::from_static("x-aws-proxy-force-h2");

/// What was found out about a request before it is forwarded.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) switch: Switch,
    /// The subprotocols that are the app's.
    pub(crate) subprotocols: ForApp,
    /// Held as long as the client's connection is one.
    pub(crate) client: Arc<Client>,
}

/// How the app is to be spoken to: in HTTP/2 if the client says so, or for gRPC, which
/// nothing else can carry. A request is taken for gRPC if it comes over HTTP/2 and says what
/// gRPC's clients must say.
pub(crate) fn wanted<T>(request: &Request<T>, switch: &Switch) -> Wanted {
    let headers = request.headers();
    let forced = || headers.get(FORCE_H2).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    let grpc = || {
        let essence =
            headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
        request.version() == Version::HTTP_2
            && essence.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
            && headers.get(TE).is_some_and(|te| te == "trailers")
    };
    if *switch != Switch::No {
        Wanted::Http1
    } else if forced() || grpc() {
        Wanted::Http2
    } else {
        Wanted::Any
    }
}

/// Sends `request` on a connection to the app. The bodies are streamed both ways.
pub(crate) async fn forward<N: Node>(
    mut request: Request<AppBody>,
    route: Route,
    (way, reached): (Way<'_, N>, Reached<N::Life>),
    call: &Call,
    shared: &Shared<N>,
) -> Result<Response<AnswerBody>, Refusal> {
    let client_version = request.version();
    let Route { switch, subprotocols, client: connection_of_client } = route;
    let client = (switch != Switch::No).then(|| hyper::upgrade::on(&mut request));
    let marked = subprotocols.is_marked();
    let mut request = for_the_app(request)?;
    let mut accept = None;
    if switch != Switch::No {
        let (mut parts, body) = request.into_parts();
        if switch.is_websocket() {
            subprotocols.put(&mut parts.headers);
        }
        accept = switch.ask(&mut parts.headers, &mut parts.method);
        request = Request::from_parts(parts, body);
    }
    let Reached { running, passing, connection } = reached;
    let sent = shared.apps.send(connection, request, &running, way.target(), &shared.stop).await;
    let (mut response, running, mut passing) = match sent {
        Ok(response) => (response, running, passing),
        Err(failure) => {
            drop(passing);
            // In a box, as hardly any request has a use for its state.
            Box::pin(send_again(failure, way, shared)).await?
        }
    };
    passing.answered();
    let app = hyper::upgrade::on(&mut response);
    let (mut head, body) = response.into_parts();
    fold_length(&mut head.headers)?;
    let app_protocol = head.headers.get(UPGRADE).cloned();
    hearth_hop::remove_fields(&mut head.headers);
    head.version = if client_version == Version::HTTP_2 { Version::HTTP_2 } else { Version::HTTP_11 };
    if !switch.answer(&mut head.status, &mut head.headers, app_protocol, accept.as_ref())? {
        return Ok(Response::from_parts(head, body.held(passing)));
    }
    if let Some(client) = client {
        ForApp::complete(marked, &mut head.headers);
        let tunnel = tunnel(client, app, running.ended(), call.clone(), shared.stop.clone());
        shared.stop.tasks.spawn(async move {
            tunnel.await;
            drop(connection_of_client);
        });
    }
    Ok(Response::from_parts(head, AnswerBody::Own(Full::new(Bytes::new()))))
}

/// Sends a request in another life, as long as nothing of it has reached the app.
async fn send_again<N: Node>(
    mut failure: Box<Failure>,
    mut way: Way<'_, N>,
    shared: &Shared<N>,
) -> Result<(Response<AnswerBody>, N::Life, Passing), Refusal> {
    loop {
        let unsent = failure.unsent.take().filter(|_| failure.refusal == Refusal::MicrovmUnreachable);
        let request = unsent.ok_or(failure.refusal)?;
        let Reached { running, passing, connection } = way.wake().await?;
        match shared.apps.send(connection, request, &running, way.target(), &shared.stop).await {
            Ok(response) => return Ok((response, running, passing)),
            Err(next) => failure = next,
        }
    }
}

/// Turns a request to the endpoint into one to the app; [`address`](crate::target::address) does
/// the rest.
fn for_the_app(mut request: Request<AppBody>) -> Result<Request<AppBody>, Refusal> {
    let is_of_http2 = request.version() == Version::HTTP_2;
    let headers = request.headers_mut();
    if !is_framed_plainly(headers) {
        return Err(Refusal::BadRequest);
    }
    let takes_trailers = headers.get_all(TE).iter().any(|te| te == "trailers");
    hearth_hop::remove_fields(headers);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // The endpoint itself tells the client to go on.
    headers.remove(EXPECT);
    remove_own(headers);
    if is_of_http2 {
        join_cookies(headers);
    }
    // What hyper hangs on a request is for the client's connection.
    request.extensions_mut().clear();
    Ok(request)
}

/// Whether a body is framed by its length or as chunks and nothing more. Another coding below the
/// chunks (RFC 9112, section 7) would be lost on the way.
fn is_framed_plainly(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Makes one field of several that give the same length, which is all that may be made of them
/// (RFC 9110, section 8.6).
fn fold_length(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let mut fields = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = fields.next() else { return Ok(()) };
    if fields.next().is_none() && !first.as_bytes().contains(&b',') {
        return Ok(());
    }
    let all = || {
        headers.get_all(CONTENT_LENGTH).iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b','))
    };
    let length = first.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
    let is_one = length.iter().all(u8::is_ascii_digit) && all().all(|other| other.trim_ascii() == length);
    match HeaderValue::from_bytes(length) {
        Ok(length) if is_one && !length.is_empty() => {
            headers.insert(CONTENT_LENGTH, length);
            Ok(())
        }
        _ => Err(Refusal::AppUnreachable),
    }
}

/// Removes what is for the endpoint only.
fn remove_own(headers: &mut HeaderMap) {
    for name in [PROXY_AUTH, PROXY_PORT, FORCE_H2] {
        headers.remove(name);
    }
    let others: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(PROXY_PREFIX)).cloned().collect();
    for name in others {
        headers.remove(name);
    }
}

/// HTTP/2 lets clients send each cookie by itself; no app expects that of HTTP/1.1 (RFC
/// 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if let (Some(first), Some(_)) = (cookies.next(), cookies.next()) {
        let mut joined = first.as_bytes().to_vec();
        for cookie in headers.get_all(COOKIE).iter().skip(1) {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(cookie.as_bytes());
        }
        if let Ok(joined) = HeaderValue::try_from(joined) {
            headers.insert(COOKIE, joined);
        }
    }
}
