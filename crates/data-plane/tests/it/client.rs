//! An HTTPS client that trusts the world's authority, and the app that most tests talk to.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fake::{LABEL, World, host};

pub(crate) type TestBody = BoxBody<Bytes, hyper::Error>;

pub(crate) fn empty() -> TestBody {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> TestBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// Fails a test that hangs.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("took too long")
}

pub(crate) fn tls_config(world: &World) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&world.ca_pem).unwrap()).unwrap();
    let mut config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

pub(crate) async fn tls(world: &World, config: Arc<ClientConfig>, label: &str) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let name = ServerName::try_from(host(label)).unwrap();
    TlsConnector::from(config).connect(name, stream).await.unwrap()
}

/// A connection to an endpoint.
pub(crate) async fn connect(world: &World, label: &str) -> SendRequest<TestBody> {
    let stream = tls(world, Arc::new(tls_config(world)), label).await;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

/// A connection to an endpoint in HTTP/2.
pub(crate) async fn connect_http2(world: &World) -> hyper::client::conn::http2::SendRequest<TestBody> {
    let mut config = tls_config(world);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = tls(world, Arc::new(config), LABEL).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "HTTP/2 is preferred");
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

/// An HTTP/2 request to the endpoint with a good token.
pub(crate) fn request_http2(world: &World, path: &str) -> http::request::Builder {
    let uri = format!("https://{}{path}", host(LABEL));
    Request::builder().version(http::Version::HTTP_2).uri(uri).header("x-aws-proxy-auth", world.token())
}

/// Bodies that are fed through a channel.
pub(crate) type Feed = futures::channel::mpsc::Sender<Result<Frame<Bytes>, hyper::Error>>;

/// A body that is fed through a channel of two pieces.
pub(crate) fn fed() -> (Feed, TestBody) {
    let (sender, receiver) = futures::channel::mpsc::channel(1);
    (sender, BodyExt::boxed(StreamBody::new(receiver)))
}

/// The next piece of a body.
pub(crate) async fn piece(body: &mut Incoming) -> Bytes {
    soon(body.frame()).await.unwrap().unwrap().into_data().unwrap()
}

/// A request to the endpoint with a good token.
pub(crate) fn request(world: &World, path: &str) -> http::request::Builder {
    Request::builder().uri(path).header("host", host(LABEL)).header("x-aws-proxy-auth", world.token())
}

/// Sends one request on a connection of its own.
pub(crate) async fn send(world: &World, request: Request<TestBody>) -> Response<Incoming> {
    soon(connect(world, LABEL).await.send_request(request)).await.unwrap()
}

pub(crate) async fn get(world: &World, path: &str) -> Response<Incoming> {
    send(world, request(world, path).body(empty()).unwrap()).await
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(soon(response.into_body().collect()).await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Serves an app on `listener` until the test ends.
pub(crate) fn serve_app<F>(
    listener: TcpListener,
    app: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Response<TestBody>> + Send,
{
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let app = app.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let answer = app(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                // How the connection ends is the client's business.
                let _ = hyper::server::conn::http1::Builder::new()
                    .max_headers(200)
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            });
        }
    });
}

/// Serves an app that speaks HTTP/2 without TLS; how many connections it was sent.
pub(crate) fn serve_http2_app<F>(
    listener: TcpListener,
    app: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) -> Arc<AtomicUsize>
where
    F: Future<Output = Response<TestBody>> + Send + 'static,
{
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            let app = app.clone();
            let service = service_fn(move |request| {
                let answer = app(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    connections
}

/// A connection on which an app has been asked something, which is thrown away.
pub(crate) async fn asked(listener: &TcpListener) -> TcpStream {
    let (mut app, _) = soon(listener.accept()).await.unwrap();
    assert!(soon(app.read(&mut [0; 4096])).await.unwrap() > 0);
    app
}

/// An app that answers with method, target, headers (sorted) and body of the request.
pub(crate) async fn describe(request: Request<Incoming>) -> Response<TestBody> {
    let (head, body) = request.into_parts();
    let mut lines = vec![format!("{} {} {:?}", head.method, head.uri, head.version)];
    let mut headers: Vec<String> =
        head.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    headers.sort();
    lines.extend(headers);
    let body = body.collect().await.unwrap().to_bytes();
    lines.push(String::from_utf8(body.to_vec()).unwrap());
    Response::new(full(lines.join("\n")))
}

/// Lets time pass for the endpoint's timers, and for nothing else.
pub(crate) async fn two_minutes_pass() {
    tokio::time::pause();
    for _ in 0..24 {
        tokio::time::advance(Duration::from_secs(5)).await;
        tokio::task::yield_now().await;
    }
    tokio::time::resume();
}
