//! HTTP/1.1: the host of each request. Requests are passed on one after the other to the address
//! that the guest has connected to; a connection that is upgraded becomes bytes in both directions.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::{Judge, Kind, PATIENCE};

type Body = BoxBody<Bytes, hyper::Error>;

/// The connection to the server, once there was an allowed request.
type Server = Mutex<Option<SendRequest<Incoming>>>;

pub(crate) async fn serve<J: Judge>(client: TcpStream, to: SocketAddrV4, judge: Arc<J>) -> io::Result<()> {
    let server = Arc::new(Server::default());
    let service = service_fn(move |request| {
        let (judge, server) = (Arc::clone(&judge), Arc::clone(&server));
        async move { Ok::<_, Infallible>(answer(request, to, &judge, &server).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(client), service)
        .with_upgrades()
        .await
        .map_err(io::Error::other)
}

async fn answer<J: Judge>(
    request: Request<Incoming>,
    to: SocketAddrV4,
    judge: &Arc<J>,
    server: &Server,
) -> Response<Body> {
    let Some(name) = host(&request) else {
        return refusal(
            "The request names no host, and the egress policy of this microVM allows hosts by name.",
        );
    };
    if !judge.allows(Kind::Http, Some(&name), to) {
        return refusal("The egress policy of this microVM does not allow this host at this address.");
    }
    match pass_on(request, name, to, judge, server).await {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!(error = &*error, "a request of a guest could not be passed on");
            text(StatusCode::BAD_GATEWAY, "The host could not be reached, or did not answer as HTTP has it.")
        }
    }
}

async fn pass_on<J: Judge>(
    mut request: Request<Incoming>,
    name: String,
    to: SocketAddrV4,
    judge: &Arc<J>,
    server: &Server,
) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
    let wants_upgrade = request.headers().contains_key(UPGRADE);
    let upgraded = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
    let mut server = server.lock().await;
    let mut sender = match server.take().filter(|sender| !sender.is_closed()) {
        Some(sender) => sender,
        None => connect(to, &**judge).await?,
    };
    sender.ready().await?;
    let forbidden = judge.forbidden(Kind::Http, &name, to);
    let mut response = tokio::select! {
        response = sender.send_request(request) => response?,
        () = forbidden => return Ok(refusal("The egress policy of this microVM has changed.")),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = upgraded
    {
        let (theirs, judge) = (hyper::upgrade::on(&mut response), Arc::clone(judge));
        tokio::spawn(async move {
            let (Ok(client), Ok(theirs)) = (client.await, theirs.await) else { return };
            let (mut client, mut theirs) = (TokioIo::new(client), TokioIo::new(theirs));
            tokio::select! {
                // How it ended, the two have told each other.
                _ = copy_bidirectional(&mut client, &mut theirs) => {}
                () = judge.forbidden(Kind::Http, &name, to) => {}
            }
        });
    } else {
        *server = Some(sender);
    }
    Ok(response.map(BodyExt::boxed))
}

async fn connect<J: Judge>(
    to: SocketAddrV4,
    judge: &J,
) -> Result<SendRequest<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = timeout(PATIENCE, judge.connect(to)).await??;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // An error is told to whoever waits for the response.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

/// The host that a request is for, without its port: of its one `Host` and, if that says one too,
/// of its target (RFC 9112, 3.2.2), as servers may believe either.
fn host<B>(request: &Request<B>) -> Option<String> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, None) = (hosts.next()?.to_str().ok()?, hosts.next()) else { return None };
    let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
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
        assert_eq!(of("http://b.org/", &["a.org"]), None);
        assert_eq!(of("/", &["a.org", "b.org"]), None);
        assert_eq!(of("/", &[]), None);
    }
}
