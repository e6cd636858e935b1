//! The way of one request: where to, may it, is the microVM there; then [`forward`].

use std::sync::Arc;

use hearth_node::Node;
use http::header::CONNECTION;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use jiff::Timestamp;
use uuid::Uuid;

use crate::admit::{Admitted, SHELL_PORT, admit, token};
use crate::answer_body::AnswerBody;
use crate::call::{Call, Observed, OpenStream};
use crate::client::Client;
use crate::forward::{Route, forward, wanted};
use crate::head;
use crate::reach::Way;
use crate::refusal::Refusal;
use crate::request_body::AppBody;
use crate::route;
use crate::shared::Shared;
use crate::shell::{self, Handshake};
use crate::subprotocol::Offer;
use crate::switch::Switch;
use crate::target::Target;

/// Header with the request's id, on the way in and out.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// What the client gets.
pub(crate) type Answer = Response<Observed<AnswerBody>>;

/// Answers a request of a client.
pub(crate) async fn answer<N: Node>(
    request: Request<Incoming>,
    client: &Arc<Client>,
    open: Option<OpenStream>,
    shared: &Shared<N>,
) -> Answer {
    let mut request_id = request_id();
    let call = shared.observation.begin(&request, &request_id, client.address, (open, client.busy()));
    let is_of_http2 = request.version() == Version::HTTP_2;
    let has_no_body = request.method() == Method::HEAD;
    let request = AppBody::of_client(request, &call);
    let mut response = match pass(request, client, &request_id, &call, shared).await {
        Ok(response) => {
            call.answered(response.status());
            response
        }
        Err(refusal) => {
            call.refused(refusal);
            tracing::debug!(?refusal, ?request_id, "endpoint request refused");
            let mut response = refusal.response(has_no_body).map(AnswerBody::Own);
            // A browser's first request of HTTP/2 often has no token (a preflight, an icon), and
            // its WebSocket goes by the same connection: that stays, and gives way to others.
            let may_stay = is_of_http2 && response.status() == StatusCode::FORBIDDEN;
            if !client.is_counted() && !may_stay {
                // A client that was never let in shall not keep a place.
                client.hang_up();
                if !is_of_http2 {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
            }
            response
        }
    };
    // HTTP/2 would put it into the table of fields that come again (RFC 7541, section 7.1.3), in
    // the place of one that does.
    request_id.set_sensitive(true);
    response.headers_mut().insert(REQUEST_ID, request_id);
    response.map(|body| call.response_body(body))
}

fn request_id() -> HeaderValue {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = Uuid::new_v4().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).expect("invariant: a UUID is visible ASCII")
}

async fn pass<N: Node>(
    mut request: Request<AppBody>,
    client: &Arc<Client>,
    request_id: &HeaderValue,
    call: &Call,
    shared: &Shared<N>,
) -> Result<Response<AnswerBody>, Refusal> {
    head::check(request.headers(), request.version())?;
    let switch = Switch::of(&request)?;
    let authority = route::authority(&request)?;
    let offer = if switch.is_websocket() { Offer::of(request.headers())? } else { Offer::default() };
    let port = route::port(request.headers(), offer.port)?;
    let label = shared.hosts.agreed_label(client.server_name.as_deref(), &authority);
    let token = token(request.headers(), &offer);
    let now_seconds = Timestamp::now().as_second();
    let subprotocols = offer.for_app();
    let admitted = admit(token, label.as_deref(), port, now_seconds, shared).await?;
    let (found, port) = match admitted {
        Admitted::ToApp(found, port) if found.ingress.http => (found, port),
        Admitted::ToApp(..) => return Err(Refusal::PortDenied),
        Admitted::ToShell(found) => {
            call.admitted(&found.microvm, SHELL_PORT);
            client.let_in(&found.microvm);
            let handshake = Handshake { switch, is_marked: subprotocols.is_marked() };
            // In a box, as most requests have no use for its state, but would have to carry it.
            let opened = shell::open(request, handshake, found, (client, call), shared);
            let response = Box::pin(opened).await?;
            return Ok(response.map(AnswerBody::Own));
        }
    };
    call.admitted(&found.microvm, port);
    client.let_in(&found.microvm);
    let target = Target { port, wanted: wanted(&request, &switch), authority: &authority };
    let mut way = Way::new(&found.microvm, target, (client, call), shared);
    if found.is_alive && found.running.is_none() {
        // It keeps its place while it waits.
        client.prove(&found.microvm, shared)?;
    }
    let reached = way.reach(found.running).await?;
    request.headers_mut().insert(REQUEST_ID, request_id.clone());
    let route = Route { switch, subprotocols, client: Arc::clone(client) };
    forward(request, route, (way, reached), call, shared).await
}
