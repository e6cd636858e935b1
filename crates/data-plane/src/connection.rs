//! One client connection: TLS, then HTTP/1.1 or HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hearth_api::MicrovmId;
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
use crate::activity::Busy;
use crate::backend::{Backend, RunningApp as _};
use crate::chatter::{Chatter, PING_BYTES};
use crate::head::HEAD_BYTES_MAX;
use crate::limits::{Counting, Usage};
use crate::pass::answer;
use crate::places::Place;
use crate::refusal::Refusal;
use crate::serve::{Accepted, Shared};
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
/// The same for all streams of a connection.
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What is kept of one stream until the client takes it, in bytes.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;

/// Whose connection it is. It counts everywhere until this is dropped: a tunnel holds it beyond
/// the HTTP/1.1 before it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    /// Name that the TLS handshake asked for (SNI).
    pub(crate) server_name: Option<String>,
    place: Place,
    hung_up: CancellationToken,
    _from_source: FromSource,
    _on_worker: OnWorker,
    /// As whose it counts, once a request has been let in. Server name and host must agree, so
    /// it is one microVM's.
    counting: Mutex<Option<Counting>>,
    /// Whose endpoint it is, once a request has been let in.
    microvm: OnceLock<MicrovmId>,
}

impl Client {
    /// A request has shown a good token for a microVM that has not ended.
    pub(crate) fn prove<B: Backend>(&self, microvm: &MicrovmId, shared: &Shared<B>) -> Result<(), Refusal> {
        self.place.prove(microvm, || shared.backend.account(microvm).unwrap_or_else(|| "".into()))
    }

    /// A request is under way, until this is dropped.
    pub(crate) fn busy(&self) -> Busy {
        self.place.busy()
    }

    /// Whether a request of it was let in and counted.
    pub(crate) fn is_counted(&self) -> bool {
        self.place.is_proven() && self.counting.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Ends it when what is under way is over.
    pub(crate) fn hang_up(&self) {
        self.hung_up.cancel();
    }

    /// A request has been let in to this microVM, whose all requests on this connection are.
    pub(crate) fn let_in(&self, microvm: &MicrovmId) {
        self.microvm.get_or_init(|| microvm.clone());
    }

    /// It is there, and wants what it uses to stay awake; that wakes nothing.
    fn pinged<B: Backend>(&self, shared: &Shared<B>) {
        let endpoint = self.microvm.get().and_then(|microvm| shared.backend.endpoint(microvm));
        if let Some(running) = endpoint.and_then(|endpoint| endpoint.running) {
            running.traffic(PING_BYTES);
        }
    }

    /// Counts a request to a microVM, and with the first one the connection.
    pub(crate) fn count<B: Backend>(&self, running: &B::App, shared: &Shared<B>) -> Result<(), Refusal> {
        count(&self.counting, || shared.usages.of(running.id(), running.vcpus()))
    }
}

/// Counts a request, and the connection if it does not yet: once, also when its first requests
/// come at the same time.
fn count(counting: &Mutex<Option<Counting>>, usage: impl FnOnce() -> Arc<Usage>) -> Result<(), Refusal> {
    let mut counting = counting.lock().unwrap_or_else(PoisonError::into_inner);
    let counting = match &mut *counting {
        Some(counting) => counting,
        none => none.insert(usage().connection()?),
    };
    counting.usage().request()
}

/// Serves a connection until either side ends it.
pub(crate) async fn serve<B: Backend>(accepted: Accepted, tls: TlsAcceptor, shared: Arc<Shared<B>>) {
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
        let client = Arc::new(Client {
            address,
            server_name: session.server_name().map(Into::into),
            hung_up: place.gives_way(),
            place,
            _from_source: from_source,
            _on_worker: on_worker,
            counting: Mutex::default(),
            microvm: OnceLock::new(),
        });
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

async fn serve_http1<B: Backend>(
    stream: TlsStream<TcpStream>,
    client: Arc<Client>,
    shared: Arc<Shared<B>>,
) -> hyper::Result<()> {
    let hung_up = client.hung_up.clone();
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

async fn serve_http2<B: Backend>(
    stream: TlsStream<TcpStream>,
    client: Arc<Client>,
    shared: Arc<Shared<B>>,
) -> hyper::Result<()> {
    let hung_up = client.hung_up.clone();
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
    let stream = TokioIo::new(Chatter::new(stream, Arc::downgrade(&requests), pinged));
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
        if client.place.is_idle() {
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::limits::{MicrovmLimits, Usages};

    #[test]
    fn first_requests_that_come_together_count_their_connection_once() {
        const REQUESTS: usize = 4;
        let usages = Usages::new(MicrovmLimits { connections: Some(1), ..MicrovmLimits::NONE }, 64);
        for _ in 0..500 {
            let (counting, together) = (Mutex::default(), Barrier::new(REQUESTS));
            let request = || {
                together.wait();
                count(&counting, || usages.of(&MicrovmId::from_stored("a"), 1))
            };
            let verdicts: Vec<_> = std::thread::scope(|scope| {
                let requests: Vec<_> = (0..REQUESTS).map(|_| scope.spawn(request)).collect();
                requests.into_iter().map(|request| request.join().unwrap()).collect()
            });
            assert_eq!(verdicts, [Ok(()); REQUESTS]);
        }
    }
}
