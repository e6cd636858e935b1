//! One client connection: TLS, then HTTP/1.1 or HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hearth_node::Node;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::abandoned::Abandoned;
use crate::client::Client;
use crate::control_frames::ControlFrames;
use crate::head::HEAD_BYTES_MAX;
use crate::pass::answer;
use crate::places::Place;
use crate::shared::Shared;
use crate::sources::FromSource;
use crate::workers::OnWorker;

/// Longest time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time until the next request's head is complete, waiting for the request included; and
/// for which an HTTP/2 connection without streams is kept, give or take half of it.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
/// How long the client of an HTTP/2 connection that is to end may take for its part.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Streams that a client may open at a time.
const HTTP2_STREAMS_MAX: u32 = 128;
/// What a client may send on one stream before the app has taken any of it, in bytes: with a round
/// trip of 50 ms, enough for 10 MB/s.
const HTTP2_STREAM_WINDOW: u32 = 512 * 1024;
/// What a client may send on all streams of a connection before the apps have taken any of it, in
/// bytes.
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What is kept of one stream until the client takes it, in bytes.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;

/// A connection that was let in.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// Of no runtime yet.
    pub(crate) stream: std::net::TcpStream,
    pub(crate) address: SocketAddr,
    /// Until its handshake's turn.
    pub(crate) pause: Duration,
    pub(crate) place: Place,
    pub(crate) from_source: FromSource,
    pub(crate) on_worker: OnWorker,
}

/// Serves a connection until either side ends it.
pub(crate) async fn serve<N: Node>(accepted: Accepted, tls: TlsAcceptor, shared: Arc<Shared<N>>) {
    let Accepted { stream, address, pause, place, from_source, on_worker } = accepted;
    let (now, needed) = (shared.stop.now.clone(), place.needed());
    let served = async {
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => return tracing::warn!(%error, "an endpoint connection could not be served"),
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
        // In a box, as its state is of no use to the connection's later life.
        let stream = match Box::pin(timeout(HANDSHAKE_TIMEOUT, tls.accept(stream))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => return tracing::debug!("TLS handshake took too long"),
        };
        let session = stream.get_ref().1;
        let server_name = session.server_name().map(Into::into);
        let client = Arc::new(Client::new(address, server_name, place, from_source, on_worker));
        let result = if session.alpn_protocol() == Some(b"h2") {
            Box::pin(serve_http2(stream, client, shared)).await
        } else {
            Box::pin(serve_http1(stream, client, shared)).await
        };
        if let Err(error) = result {
            tracing::debug!(%error, "an endpoint connection broke");
        }
    };
    tokio::select! {
        // First, so that what is cut is not answered any more.
        biased;
        () = now.cancelled() => {}
        () = needed.cancelled() => tracing::debug!("a connection without a token gave up its place"),
        () = served => {}
    }
}

async fn serve_http1<N: Node>(
    stream: TlsStream<TcpStream>,
    client: Arc<Client>,
    shared: Arc<Shared<N>>,
) -> hyper::Result<()> {
    let hung_up = client.hung_up();
    let service = service_fn(|request| {
        let (shared, client) = (Arc::clone(&shared), Arc::clone(&client));
        // In a box, as hyper keeps room for it between requests, too, when most
        // connections do nothing.
        Box::pin(async move { Ok::<_, Infallible>(answer(request, &client, None, &shared).await) })
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_header_size(HEAD_BYTES_MAX as usize)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    tokio::select! {
        result = connection.as_mut() => return result,
        () = hung_up.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

async fn serve_http2<N: Node>(
    stream: TlsStream<TcpStream>,
    client: Arc<Client>,
    shared: Arc<Shared<N>>,
) -> hyper::Result<()> {
    let hung_up = client.hung_up();
    // Counts the requests; what is open holds a clone.
    let requests = Arc::new(AtomicU64::new(0));
    let abandoned = Abandoned::new();
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, client) = (Arc::clone(&shared), Arc::clone(&client));
        let unanswered = abandoned.request();
        requests.fetch_add(1, Ordering::Relaxed);
        let open = Arc::clone(&requests);
        // In a box, as the task that hyper makes of it is moved about before it begins.
        Box::pin(async move {
            let response = answer(request, &client, Some(open), &shared).await;
            unanswered.answered();
            Ok::<_, Infallible>(response)
        })
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .max_header_list_size(HEAD_BYTES_MAX);
    let pinged = {
        let (shared, client) = (Arc::clone(&shared), Arc::clone(&client));
        move || client.pinged(&shared)
    };
    let stream = TokioIo::new(ControlFrames::new(stream, Arc::downgrade(&requests), pinged));
    let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
    tokio::select! {
        result = connection.as_mut() => return result,
        () = hung_up.cancelled() => {}
        () = idle(&requests) => {}
        () = abandoned.too_many() => return Ok(()),
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        result = connection => result,
        () = abandoned.too_many() => Ok(()),
        // An orderly end takes a client that has said hello and answers a PING.
        () = idle(&requests) => Ok(()),
        () = left_alone(&hung_up, &client) => Ok(()),
    }
}

/// Resolves when a connection that is to end has no request under way, and its client has
/// had the time to end it.
async fn left_alone(hung_up: &CancellationToken, client: &Client) {
    hung_up.cancelled().await;
    loop {
        tokio::time::sleep(FAREWELL_TIMEOUT).await;
        if client.is_idle() {
            return;
        }
    }
}

/// Resolves when no stream has been open for a while.
async fn idle(requests: &Arc<AtomicU64>) {
    let mut ticks = interval(HEAD_TIMEOUT / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    loop {
        ticks.tick().await;
        let idle = Arc::strong_count(requests) == 1;
        let now = idle.then(|| requests.load(Ordering::Relaxed));
        if now.is_some() && now == before {
            return;
        }
        before = now;
    }
}
