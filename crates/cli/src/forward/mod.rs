//! Makes a port of a microVM a port of this machine, for programs that can neither send a token nor
//! trust the endpoint's certificate: browsers above all.
//!
//! HTTP/1.1 with whatever it is upgraded to. Each local connection has one to the
//! endpoint behind it.

mod patience;
mod rewrite;
#[cfg(test)]
mod tests;
mod tokens;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::Instant;

pub(crate) use tokens::Tokens;

use crate::endpoint::Endpoint;
use crate::render;
use patience::{PATIENCE, Repeatable, wait_before_retry};
use rewrite::Places;

/// Pause after a failed accept, which mostly means that descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What stands behind one local port.
pub(crate) struct Forwarder {
    endpoint: Endpoint,
    tokens: Arc<Tokens>,
    app_port: u16,
    listens_on: IpAddr,
}

/// The connection to the endpoint that a local one uses.
type Upstream = Mutex<Option<SendRequest<Body>>>;
type Body = Either<Incoming, Full<Bytes>>;

impl Forwarder {
    pub(crate) fn new(endpoint: Endpoint, tokens: Arc<Tokens>, app_port: u16, listens_on: IpAddr) -> Self {
        Self { endpoint, tokens, app_port, listens_on }
    }

    /// Serves local connections for ever.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(Arc::clone(&self).serve_connection(stream));
                }
                Err(error) => {
                    render::warn(&format!("a connection could not be accepted: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve_connection(self: Arc<Self>, stream: TcpStream) {
        // Small messages are not to wait for each other; without it they are only later.
        let _ = stream.set_nodelay(true);
        let upstream = Arc::new(Upstream::default());
        let service = service_fn(|request| {
            let (forwarder, upstream) = (Arc::clone(&self), Arc::clone(&upstream));
            async move { Ok::<_, Infallible>(forwarder.answer(request, &upstream).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        // How a client ends its connection is its own business.
        let _ = served.await;
    }

    async fn answer(&self, request: Request<Incoming>, upstream: &Upstream) -> Response<Body> {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !rewrite::is_own_name(host, self.listens_on) {
            // A page that makes its own name point here must not reach the microVM.
            return refuse(StatusCode::FORBIDDEN, "hearth forward answers only to names of this machine");
        }
        match self.pass(request, upstream).await {
            Ok(response) => response.map(Either::Left),
            Err(error) => {
                render::warn(&format!("{error:#}"));
                refuse(StatusCode::BAD_GATEWAY, &format!("hearth forward: {error:#}"))
            }
        }
    }

    async fn pass(
        &self,
        mut request: Request<Incoming>,
        upstream: &Upstream,
    ) -> anyhow::Result<Response<Incoming>> {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let places = Places { local: host.to_owned(), endpoint: self.endpoint.authority().to_owned() };
        let client = hyper::upgrade::on(&mut request);
        let (mut parts, body) = request.into_parts();
        rewrite::request(&mut parts, &places, self.app_port)?;
        let (name, token) = self.tokens.header().await?;
        parts.headers.insert(name, token);
        let mut response = self.send_patiently(Request::from_parts(parts, body), upstream).await?;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let app = hyper::upgrade::on(&mut response);
        let (mut parts, body) = response.into_parts();
        rewrite::response(&mut parts, &places);
        if switched {
            tokio::spawn(tunnel(client, app));
        }
        Ok(Response::from_parts(parts, body))
    }

    /// Sends a request, again when the endpoint had too many and says when there may be more.
    async fn send_patiently(
        &self,
        request: Request<Incoming>,
        upstream: &Upstream,
    ) -> anyhow::Result<Response<Incoming>> {
        let until = Instant::now() + PATIENCE;
        let mut repeatable = Repeatable::of(request).await?;
        loop {
            let request = repeatable.next().context("a request that cannot be repeated was repeated")?;
            let response = self.send(request, upstream).await?;
            match wait_before_retry(&response) {
                Some(pause) if repeatable.is_whole() && Instant::now() + pause < until => {
                    tokio::time::sleep(pause).await;
                }
                _ => return Ok(response),
            }
        }
    }

    /// Sends on the connection in use, or on a fresh one when that has been closed
    /// before anything was sent.
    async fn send(&self, request: Request<Body>, upstream: &Upstream) -> anyhow::Result<Response<Incoming>> {
        let broke = || format!("the connection to {} broke", self.endpoint.authority());
        let mut kept = upstream.lock().await;
        let mut request = request;
        if let Some(mut sender) = kept.take()
            && sender.ready().await.is_ok()
        {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    *kept = Some(sender);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(anyhow!(error.into_error()).context(broke())),
                },
            }
        }
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(self.endpoint.connect().await?)).await?;
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.with_context(broke)?;
        *kept = Some(sender);
        Ok(response)
    }
}

fn refuse(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::from(format!("{text}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Copies raw bytes both ways after a switch of protocols.
async fn tunnel(client: OnUpgrade, app: OnUpgrade) {
    if let Ok((client, app)) = tokio::try_join!(client, app) {
        // It ends when either side does, in whatever way.
        let _ = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(app)).await;
    }
}
