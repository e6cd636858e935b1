//! The listener of the API: HTTP/1.1, which is what clients of AWS speak, and no TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hearth_data_plane::{Busy, FromSource, Sources, watch_clients};
use hearth_gateway::WholeApi;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api_config::ApiConfig;
use crate::api_places::{Place, Places};
use crate::api_progress::{Awaited, Watched};
use crate::forwarded::TrustedProxies;

/// Longest time until the next request's head is complete, waiting for the request included.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest head of a request, and most that is read ahead of a body, in bytes. The library's own
/// limit is 400 KiB, which a thousand clients without a key would fill.
const READ_AHEAD_BYTES: usize = 64 * 1024;
/// How long a client may acknowledge nothing, or leave no room for what is to be sent, until it is
/// cut. One that takes 5 KB/s leaves room for more of a full buffer (4 MiB at most on most hosts)
/// that often.
const CLIENT_TIMEOUT: Duration = Duration::from_mins(5);
/// Pause after a failed accept, which mostly means that descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Which connections are let in, and which proxies are believed.
pub(crate) struct Admission {
    places: Places,
    sources: Sources,
    proxies: TrustedProxies,
}

impl Admission {
    /// At most `connections` at a time, of those that the settings want.
    pub(crate) fn new(config: &ApiConfig, connections: usize) -> anyhow::Result<Self> {
        let per_source = Some(config.connections_per_source).filter(|maximum| *maximum > 0);
        Ok(Self {
            places: Places::new(connections),
            sources: Sources::new(per_source),
            proxies: TrustedProxies::parse(&config.trusted_proxies)?,
        })
    }
}

/// A connection that was let in.
struct Accepted {
    stream: TcpStream,
    address: SocketAddr,
    place: Place,
    /// None for proxies, which connect for many.
    _from_source: Option<FromSource>,
}

/// Serves until `stopping`, and then what is under way.
pub(crate) async fn serve(
    listener: TcpListener,
    api: WholeApi,
    admission: Admission,
    stopping: CancellationToken,
) {
    let Admission { places, sources, proxies } = admission;
    if let Err(error) = watch_clients(&listener, CLIENT_TIMEOUT) {
        tracing::warn!(%error, "clients of the API that are gone will not be noticed");
    }
    let connections = TaskTracker::new();
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    let from_source = sources.connection(address.ip());
                    if from_source.is_none() && !proxies.contains(address.ip()) {
                        // Dropping it closes it: until its head is read it asks for nothing
                        // that could be answered.
                        continue;
                    }
                    let place = places.take().await;
                    let accepted = Accepted { stream, address, place, _from_source: from_source };
                    connections.spawn(serve_connection(
                        accepted,
                        api.clone(),
                        proxies.clone(),
                        stopping.clone(),
                    ));
                }
                Err(error) => {
                    tracing::warn!(%error, "an API connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    stopping.run_until_cancelled(accept).await;
    connections.close();
    connections.wait().await;
}

async fn serve_connection(
    accepted: Accepted,
    api: WholeApi,
    proxies: TrustedProxies,
    stopping: CancellationToken,
) {
    let Accepted { stream, address, place, _from_source } = accepted;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let api = TowerToHyperService::new(api);
    let (activity, progress) = (place.activity().clone(), place.progress().clone());
    let stream = TokioIo::new(Watched::new(stream, progress.clone(), CLIENT_TIMEOUT));
    let service = service_fn(move |mut request: Request<Incoming>| {
        // Policies ask for it (`aws:SourceIp`).
        let source = proxies.source(address, request.headers(), progress.user().clone());
        progress.request(source.address);
        request.extensions_mut().insert(source);
        let request = request.map(|body| Awaited { body, progress: progress.clone() });
        let (busy, answer) = (activity.request(), api.call(request));
        async move { Ok::<_, Infallible>(answer.await?.map(|body| BusyBody { body, _busy: busy })) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(READ_AHEAD_BYTES)
            .serve_connection(stream, service)
    );
    let served = async {
        tokio::select! {
            result = connection.as_mut() => result,
            () = stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            // A request may have come in the moment in which its connection was told to go: it is
            // answered.
            () = place.needed().cancelled() => {
                if place.is_busy() && !place.cut().is_cancelled() {
                    connection.as_mut().graceful_shutdown();
                    place.cut().run_until_cancelled(connection).await.unwrap_or(Ok(()))
                } else {
                    Ok(())
                }
            }
        }
    };
    match served.await {
        Err(error) => tracing::debug!(%error, "an API connection broke"),
        Ok(()) if place.cut().is_cancelled() => {
            tracing::debug!(%address, "an API connection was cut for its place");
        }
        Ok(()) => {}
    }
}

/// An answer's body, with which the request ends.
struct BusyBody<T> {
    body: T,
    _busy: Busy,
}

impl<T: Body + Unpin> Body for BusyBody<T> {
    type Data = T::Data;
    type Error = T::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<T::Data>, T::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use axum::Router;
    use axum::routing::{any, get};
    use rustix::net::sockopt;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpSocket;

    use super::*;

    /// More than the buffers of two sockets hold.
    const LONG_BYTES: usize = 64 << 20;

    /// A server with so many places: `/upload` reads the body, `/long` has a long answer, `/` a
    /// short one.
    async fn server(connections: usize, config: ApiConfig) -> SocketAddr {
        let upload = |body: axum::body::Bytes| async move { body.len().to_string() };
        let routes = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/upload", any(upload))
            .route("/long", get(|| async { vec![b'x'; LONG_BYTES] }))
            .layer(axum::extract::DefaultBodyLimit::disable());
        let api = WholeApi::new(routes, Router::new(), &[]);
        let admission = Admission::new(&config, connections).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, api, admission, CancellationToken::new()));
        address
    }

    async fn send(to: SocketAddr, source: u8, head: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        // What is not read soon stays with the server.
        socket.set_recv_buffer_size(8192).unwrap();
        socket.bind(([127, 0, 0, source], 0).into()).unwrap();
        let mut stream = socket.connect(to).await.unwrap();
        stream.write_all(format!("{head}\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        stream
    }

    const UPLOAD: &str = "PUT /upload HTTP/1.1\r\nContent-Length: 100000000";
    const DOWNLOAD: &str = "GET /long HTTP/1.1";

    async fn is_answered(to: SocketAddr) -> bool {
        let mut stream = send(to, 9, "GET / HTTP/1.1\r\nConnection: close").await;
        let mut answer = String::new();
        let read = tokio::time::timeout(Duration::from_mins(2), stream.read_to_string(&mut answer));
        matches!(read.await, Ok(Ok(_))) && answer.ends_with("here")
    }

    /// The kind: an upload or a download without a deadline. All the while, others get their turn.
    #[tokio::test(start_paused = true)]
    async fn busy_connections_that_do_not_move_keep_nobody_out() {
        for head in [UPLOAD, DOWNLOAD] {
            let address = server(4, ApiConfig::default()).await;
            let mut held = Vec::new();
            for _ in 0..4 {
                held.push(send(address, 1, head).await);
            }
            let began = tokio::time::Instant::now();
            assert!(is_answered(address).await, "{head}");
            assert!(began.elapsed() >= Duration::from_secs(10), "{head}: it is no idle one that gave way");
            assert!(is_answered(address).await, "{head}");
        }
    }

    /// Behind a proxy, clients are told apart by the address that it tells.
    #[tokio::test(start_paused = true)]
    async fn whoever_has_most_behind_a_proxy_gives_way() {
        let config = ApiConfig { trusted_proxies: vec!["127.0.0.1".to_owned()], ..ApiConfig::default() };
        let address = server(4, config).await;
        let told = |client: &str| format!("{UPLOAD}\r\nX-Forwarded-For: {client}");
        let mut alone = send(address, 1, &told("203.0.113.9")).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(send(address, 1, &told("203.0.113.1")).await);
        }
        assert!(is_answered(address).await);
        let is_cut = |result: Result<std::io::Result<u8>, _>| result.is_ok();
        assert!(is_cut(tokio::time::timeout(Duration::from_millis(1), held[0].read_u8()).await));
        assert!(!is_cut(tokio::time::timeout(Duration::from_millis(1), alone.read_u8()).await));
    }

    /// The kind: an answer that nobody takes, though there are places.
    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_an_answer_is_cut() {
        let address = server(4, ApiConfig::default()).await;
        let mut stream = send(address, 1, DOWNLOAD).await;
        tokio::time::sleep(CLIENT_TIMEOUT * 2).await;
        let mut taken = Vec::new();
        let read = stream.read_to_end(&mut taken).await;
        assert!(read.is_err() || taken.len() < LONG_BYTES, "{} bytes", taken.len());
    }

    #[tokio::test]
    async fn clients_that_are_gone_are_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Accepted sockets take the options over from the listener's.
        let watched = listener.as_fd().try_clone_to_owned().unwrap();
        let api = WholeApi::new(Router::new(), Router::new(), &[]);
        let admission = Admission::new(&ApiConfig::default(), 1).unwrap();
        let stopping = CancellationToken::new();
        stopping.cancel();
        serve(listener, api, admission, stopping).await;
        assert!(sockopt::socket_keepalive(&watched).unwrap());
        assert_eq!(u128::from(sockopt::tcp_user_timeout(&watched).unwrap()), CLIENT_TIMEOUT.as_millis());
    }
}
