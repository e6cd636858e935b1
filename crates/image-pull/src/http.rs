//! GET requests, each within limits, with the redirects that are followed.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::address::Reach;
use crate::dial::Dial;
use crate::messages::OperatorAddress;
use crate::origin::{Origin, Origins, Route};
use crate::spec::{Failure, Proxy};

/// How long a server may take for its TLS handshake, for the head of its answer, or for the
/// next bytes of a body.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a kept connection may take until it is ready again.
const REUSE_PATIENCE: Duration = Duration::from_millis(50);
/// Most redirects of one request.
const REDIRECTS: usize = 5;
/// Largest head of an answer, in bytes.
const HEAD_BYTES: usize = 64 << 10;
/// Largest head of a proxy's answer to CONNECT, in bytes.
const PROXY_HEAD_BYTES: usize = 8 << 10;

/// Sends requests, one at a time.
#[derive(Debug)]
pub(crate) struct Http<D> {
    /// Opens connections.
    pub(crate) dial: D,
    /// Authorities that are trusted.
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// Who may be asked.
    pub(crate) origins: Origins,
    /// The operator's proxy.
    pub(crate) proxy: Option<Proxy>,
    /// Addresses that may be named to the proxy.
    pub(crate) reach: Reach,
    /// The connection of the last request, which the next may use.
    pub(crate) kept: Option<(Origin, http1::SendRequest<Empty<Bytes>>)>,
}

/// An answer, and whose it is.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) origin: Origin,
    pub(crate) response: Response<Incoming>,
}

impl<D: Dial> Http<D> {
    /// Asks for `url`. `authorization` goes to its origin only.
    pub(crate) async fn get(
        &mut self,
        url: &Url,
        accept: &str,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Failure> {
        let first = Origin::of(url)?;
        let (mut from, mut url) = (self.origins.registry().clone(), url.clone());
        for _ in 0..=REDIRECTS {
            let origin = Origin::of(&url)?;
            let route = self.origins.route(&from, &origin)?;
            let authorization = authorization.filter(|_| origin == first);
            let response = self.ask(&origin, route, &url, accept, authorization).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { origin, response });
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            url = url.join(location.ok_or(Failure::Broken)?).map_err(|_| Failure::Refused)?;
            from = origin;
        }
        Err(Failure::Redirects)
    }

    async fn ask(
        &mut self,
        origin: &Origin,
        route: Route,
        url: &Url,
        accept: &str,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, Failure> {
        let kept = self.kept.take().filter(|(kept, _)| kept == origin);
        let mut sender = match reusable(kept.map(|(_, sender)| sender)).await {
            Some(sender) => sender,
            None => self.connect(origin, route).await?,
        };
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let mut request = Request::get(path)
            .header(HOST, host)
            .header(USER_AGENT, concat!("hearth/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, accept);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(|_| Failure::Refused)?;
        let response = timeout(PATIENCE, sender.send_request(request)).await;
        let response = response.map_err(|_| Failure::TooSlow)?.map_err(|_| Failure::Broken)?;
        self.kept = Some((origin.clone(), sender));
        Ok(response)
    }

    async fn connect(
        &mut self,
        origin: &Origin,
        route: Route,
    ) -> Result<http1::SendRequest<Empty<Bytes>>, Failure> {
        let stream = self.stream(origin, route).await?;
        if !origin.secure {
            return handshake(stream).await;
        }
        let name = ServerName::try_from(origin.host.clone()).map_err(|_| Failure::Refused)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let secured = timeout(PATIENCE, connector.connect(name, stream)).await;
        handshake(secured.map_err(|_| Failure::Unreachable)?.map_err(|_| Failure::Unreachable)?).await
    }

    async fn stream(&mut self, origin: &Origin, route: Route) -> Result<TcpStream, Failure> {
        if let Some(proxy) = self.proxy.clone().filter(|proxy| is_for(proxy, origin, route)) {
            // A proxy resolves names itself, and its own rules decide; what is written as an
            // address is known here.
            let literal = origin.host.parse::<Ipv4Addr>();
            if route == Route::Namespace && literal.is_ok_and(|address| !self.reach.allows(address)) {
                return Err(Failure::Unreachable);
            }
            let stream = self.dial.by_operator(OperatorAddress::Proxy).await.ok_or(Failure::Unreachable)?;
            let connected = timeout(PATIENCE, through(&proxy, origin, stream)).await;
            return connected.ok().flatten().ok_or(Failure::Unreachable);
        }
        let stream = match route {
            Route::Namespace => self.dial.inside(&origin.host, origin.port).await,
            Route::Operator(address) => self.dial.by_operator(address).await,
        };
        stream.ok_or(Failure::Unreachable)
    }
}

/// Whether a connection goes through the proxy: all that is TLS, unless the host is this
/// machine or excepted.
fn is_for(proxy: &Proxy, origin: &Origin, route: Route) -> bool {
    let here = origin.host == "localhost"
        || origin.host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    let direct = matches!(route, Route::Operator(_)) && here;
    origin.secure && !direct && !proxy.excepts(&origin.host)
}

/// Asks a proxy for a tunnel (RFC 9110, section 9.3.6); `None` if it gives none.
async fn through(proxy: &Proxy, origin: &Origin, mut stream: TcpStream) -> Option<TcpStream> {
    let target = format!("{}:{}", origin.host, origin.port);
    let authorization = proxy
        .authorization
        .as_ref()
        .map(|value| format!("Proxy-Authorization: {value}\r\n"))
        .unwrap_or_default();
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= PROXY_HEAD_BYTES {
            return None;
        }
        head.push(stream.read_u8().await.ok()?);
    }
    let line = head.split(|byte| *byte == b'\r').next()?;
    (line.starts_with(b"HTTP/1.") && line.get(9..12) == Some(b"200")).then_some(stream)
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<http1::SendRequest<Empty<Bytes>>, Failure> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES);
    let (sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|_| Failure::Unreachable)?;
    // It ends with the sender or the stream; what is wrong with it shows in the answers.
    tokio::spawn(connection);
    Ok(sender)
}

/// A kept connection that can be used again: its last answer was read to the end, and the
/// server has not closed it.
async fn reusable(
    kept: Option<http1::SendRequest<Empty<Bytes>>>,
) -> Option<http1::SendRequest<Empty<Bytes>>> {
    let mut sender = kept?;
    timeout(REUSE_PATIENCE, sender.ready()).await.ok()?.ok()?;
    Some(sender)
}

/// Gives a body to `take`, piece by piece, which is at most `limit` bytes in all.
pub(crate) async fn each_piece(
    response: Response<Incoming>,
    limit: u64,
    too_much: Failure,
    mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let announced =
        response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > limit) {
        return Err(too_much);
    }
    let (mut body, mut bytes) = (response.into_body(), 0_u64);
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.map_err(|_| Failure::TooSlow)? {
        let Ok(data) = frame.map_err(|_| Failure::Broken)?.into_data() else { continue };
        bytes += data.len() as u64;
        if bytes > limit {
            return Err(too_much);
        }
        take(&data)?;
    }
    Ok(bytes)
}

/// A whole body of at most `limit` bytes.
pub(crate) async fn collect(response: Response<Incoming>, limit: u64) -> Result<Vec<u8>, Failure> {
    let mut whole = Vec::new();
    each_piece(response, limit, Failure::TooLarge, |piece| {
        whole.extend_from_slice(piece);
        Ok(())
    })
    .await?;
    Ok(whole)
}
