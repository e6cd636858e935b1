//! Passes one request to the app and its answer back.

use http::header::{CONNECTION, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use crate::app::{AppBody, AppConnection};
use crate::backend::{Backend, RunningApp as _};
use crate::call::{Call, Observed};
use crate::refusal::Refusal;
use crate::serve::{Shared, Stop};

/// Fields that belong to one hop, beside those that `Connection` names (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// Beginning of the names of fields that are for the endpoint only.
const PROXY_PREFIX: &str = "x-aws-proxy-";

/// Sends `request` on a connection to the app. The bodies are streamed both ways.
pub(crate) async fn forward<B: Backend>(
    mut request: Request<Observed<Incoming>>,
    authority: &Authority,
    running: &B::App,
    connection: AppConnection,
    call: &Call,
    shared: &Shared<B>,
) -> Result<Response<Incoming>, Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Refusal::BadRequest);
    }
    let upgrade = requested_upgrade(request.headers());
    let client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let request = for_the_app(request, authority, upgrade.as_ref())?;
    let mut response = shared.apps.send(connection, request, running, &shared.stop).await?;
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = response.headers().get(UPGRADE).cloned();
    remove_hop_by_hop(response.headers_mut());
    if switched {
        // Without a request for it, switching would leave the client with bytes that are not HTTP.
        let (Some(client), Some(protocol)) = (client, protocol) else { return Err(Refusal::AppUnreachable) };
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
        let app = hyper::upgrade::on(&mut response);
        let stop = shared.stop.clone();
        shared.stop.tasks.spawn(tunnel(client, app, running.ended(), call.clone(), stop));
    }
    *response.version_mut() = Version::HTTP_11;
    Ok(response)
}

/// The `Upgrade` field, if `Connection` says that it is meant for this hop.
fn requested_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = connection_options(headers).any(|option| option.eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| asked).cloned()
}

/// Turns a request to the endpoint into one to the app.
fn for_the_app(
    request: Request<Observed<Incoming>>,
    authority: &Authority,
    upgrade: Option<&HeaderValue>,
) -> Result<Request<AppBody>, Refusal> {
    let (mut parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    parts.uri = Uri::from(target);
    parts.version = Version::HTTP_11;
    let headers = &mut parts.headers;
    remove_hop_by_hop(headers);
    // The endpoint itself tells the client to go on.
    headers.remove(EXPECT);
    let own: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(PROXY_PREFIX)).cloned().collect();
    for name in own {
        headers.remove(name);
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::BadRequest)?;
    headers.insert(HOST, host);
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    Ok(Request::from_parts(parts, Either::Left(body)))
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        connection_options(headers).filter_map(|option| option.parse().ok()).collect();
    // A client must not be able to remove what routes the message.
    for name in named.into_iter().filter(|name| name != HOST).chain(HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Copies raw bytes both ways after a switch of protocols, until one side or the microVM's life ends.
async fn tunnel(client: OnUpgrade, app: OnUpgrade, ended: impl Future<Output = ()>, call: Call, stop: Stop) {
    let copied = async {
        let (client, app) = tokio::try_join!(client, app).map_err(std::io::Error::other)?;
        copy_bidirectional(&mut call.tunnel(TokioIo::new(client)), &mut TokioIo::new(app)).await
    };
    tokio::select! {
        result = copied => {
            if let Err(error) = result {
                tracing::debug!(%error, "an upgraded connection broke");
            }
        }
        () = ended => {}
        () = stop.now.cancelled() => {}
    }
}
