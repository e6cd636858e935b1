//! HTTP/1.1: the host of each request. Requests are passed on one after the other to the address
//! that the guest has connected to; a connection that is upgraded becomes bytes in both directions.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddrV4;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{Judge, Kind, PATIENCE};

type Body = BoxBody<Bytes, hyper::Error>;
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Longest head of a request, and what is read ahead of a body.
const BUFFER_BYTES: usize = 32 << 10;
/// Hosts that the requests of one connection may be for.
const NAMES_MAX: usize = 64;

/// What goes on beside a guest's connection, and ends with it.
enum Beside {
    /// The connection to the server.
    Server(Work),
    /// The bytes of a connection that was upgraded, which outlive its requests.
    Upgraded(Work),
    /// Ends when a name is no longer allowed that a request was for.
    Forbidden(Work),
}

/// What the requests of one connection have in common.
struct Asking<J> {
    judge: Arc<J>,
    to: SocketAddrV4,
    /// The connection to the server, once there was an allowed request.
    server: Mutex<Option<SendRequest<Incoming>>>,
    names: std::sync::Mutex<HashSet<String>>,
    beside_tx: mpsc::UnboundedSender<Beside>,
}

/// Serves a guest's connection. Nothing of it goes on when this is dropped, or when a policy no
/// longer allows what one of its requests was for.
pub(crate) async fn serve<J: Judge>(client: TcpStream, to: SocketAddrV4, judge: Arc<J>) -> io::Result<()> {
    // A request adds a few at most, and the next one waits for its answer.
    let (beside_tx, mut beside_rx) = mpsc::unbounded_channel();
    let (server, names) = (Mutex::default(), std::sync::Mutex::default());
    let asking = Arc::new(Asking { judge, to, server, names, beside_tx });
    let service = service_fn(move |request| {
        let asking = Arc::clone(&asking);
        async move { Ok::<_, Infallible>(asking.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(BUFFER_BYTES)
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(client), service)
        .with_upgrades();
    tokio::pin!(connection);
    let (mut servers, mut upgraded, mut forbidden) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    let mut is_served = false;
    loop {
        tokio::select! {
            biased;
            Some(_) = forbidden.join_next() => return Ok(()),
            Some(beside) = beside_rx.recv() => drop(match beside {
                Beside::Server(work) => servers.spawn(work),
                Beside::Upgraded(work) => upgraded.spawn(work),
                Beside::Forbidden(work) => forbidden.spawn(work),
            }),
            ended = &mut connection, if !is_served => {
                ended.map_err(io::Error::other)?;
                is_served = true;
            }
            Some(_) = upgraded.join_next() => {}
        }
        if is_served && upgraded.is_empty() && beside_rx.is_empty() {
            return Ok(());
        }
    }
}

impl<J: Judge> Asking<J> {
    async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let name = host(&request).filter(|_| request.method() != Method::CONNECT);
        // Also one that names none is in the log.
        if !self.judge.allows(Kind::Http, name.as_deref(), self.to) {
            return refusal("The egress policy of this microVM does not allow this host at this address.");
        }
        let Some(name) = name.filter(|name| self.watch(name)) else {
            return refusal("A connection may be for one host or some, and this one is for too many.");
        };
        let wants_upgrade = only_websockets(request.headers_mut());
        match self.pass_on(request, wants_upgrade).await {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(%name, error = &*error, "a request of a guest could not be passed on");
                text(
                    StatusCode::BAD_GATEWAY,
                    "The host could not be reached, or did not answer as HTTP has it.",
                )
            }
        }
    }

    /// Ends the connection when the name is no longer allowed; false if it has too many.
    fn watch(&self, name: &str) -> bool {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.contains(name) {
            return true;
        }
        if names.len() >= NAMES_MAX {
            return false;
        }
        names.insert(name.to_owned());
        let (judge, to, name) = (Arc::clone(&self.judge), self.to, name.to_owned());
        let forbidden = async move { judge.forbidden(Kind::Http, &name, to).await };
        self.begin(Beside::Forbidden(Box::pin(forbidden))).is_ok()
    }

    fn begin(&self, beside: Beside) -> Result<(), &'static str> {
        self.beside_tx.send(beside).map_err(|_| "the guest's connection is over")
    }

    async fn pass_on(
        &self,
        mut request: Request<Incoming>,
        wants_upgrade: bool,
    ) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
        let client = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
        let mut server = self.server.lock().await;
        let mut sender = match server.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        sender.ready().await?;
        let mut response = sender.send_request(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            *server = Some(sender);
            return Ok(response.map(BodyExt::boxed));
        }
        let client = client.ok_or("the server switched protocols without being asked to")?;
        let theirs = hyper::upgrade::on(&mut response);
        let copying = async move {
            let (Ok(client), Ok(theirs)) = (client.await, theirs.await) else { return };
            // How it ended, the two have told each other.
            let _ = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(theirs)).await;
        };
        self.begin(Beside::Upgraded(Box::pin(copying)))?;
        Ok(response.map(BodyExt::boxed))
    }

    async fn connect(&self) -> Result<SendRequest<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
        let stream = timeout(PATIENCE, self.judge.connect(self.to)).await??;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // The request that waits for a response gets the error too.
        let served = async move { drop(connection.with_upgrades().await) };
        self.begin(Beside::Server(Box::pin(served)))?;
        Ok(sender)
    }
}

/// Takes out what asks for another protocol than WebSocket, in which other hosts could be asked
/// for; whether that one is asked for.
fn only_websockets(headers: &mut HeaderMap) -> bool {
    let mut asked = headers.get_all(UPGRADE).iter();
    let is_websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    let Some(first) = asked.next() else { return false };
    if is_websocket(first) && asked.next().is_none() {
        return true;
    }
    headers.remove(UPGRADE);
    headers.remove("http2-settings");
    headers.remove(CONNECTION);
    false
}

/// The host that a request is for, without its port: of its one `Host` and, if that says one too,
/// of its target (RFC 9112, 3.2.2), as servers may believe either.
fn host<B>(request: &Request<B>) -> Option<String> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, None) = (hosts.next()?.to_str().ok()?, hosts.next()) else { return None };
    let host = match host.split_once(':') {
        None => host,
        // Servers that read more than a port there read another host.
        Some((name, port)) => Some(name).filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))?,
    };
    let is_of_target = request.uri().host().is_none_or(|target| target.eq_ignore_ascii_case(host));
    is_of_target.then(|| host.to_owned())
}

fn refusal(sentence: &'static str) -> Response<Body> {
    text(StatusCode::FORBIDDEN, sentence)
}

fn text(status: StatusCode, sentence: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(sentence.as_bytes())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_protocol_but_websocket_is_asked_for() {
        let asks = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade, HTTP2-Settings"));
            for value in values {
                headers.append(UPGRADE, value.parse().unwrap());
            }
            (only_websockets(&mut headers), headers.len())
        };
        assert_eq!(asks(&["WebSocket"]), (true, 2));
        for values in [&["h2c"][..], &["websocket", "h2c"], &["websocket, h2c"], &["TLS/1.0"]] {
            assert_eq!(asks(values), (false, 0), "{values:?}");
        }
        assert_eq!(asks(&[]), (false, 1));
    }

    #[test]
    fn a_request_is_for_one_host() {
        let of = |uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().uri(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            host(&request.body(()).unwrap())
        };
        assert_eq!(of("/", &["a.org"]).as_deref(), Some("a.org"));
        assert_eq!(of("/", &["a.org:8080"]).as_deref(), Some("a.org"));
        assert_eq!(of("http://A.org/x", &["a.org:80"]).as_deref(), Some("a.org"));
        for host in ["a.org:x@b.org", "a.org:/@b.org", "a.org:80,b.org", "a.org:80:90"] {
            assert_eq!(of("/", &[host]), None, "{host}");
        }
        assert_eq!(of("http://b.org/", &["a.org"]), None);
        assert_eq!(of("/", &["a.org", "b.org"]), None);
        assert_eq!(of("/", &[]), None);
    }
}
