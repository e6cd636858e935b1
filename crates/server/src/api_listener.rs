//! The listener of the API: HTTP/1.1, which is what clients of AWS speak, and no TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hearth_companions::WholeApi;
use hearth_data_plane::{Busy, FromSource, Sources};
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
use crate::forwarded::TrustedProxies;

/// Longest time until the next request's head is complete, waiting for the request included.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest head of a request, and most that is read ahead of a body, in bytes. The library's own limit is 400 KiB, which a
/// thousand clients without a key would fill.
const READ_AHEAD_BYTES: usize = 64 * 1024;
/// Pause after a failed accept, which mostly means that descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who may connect, and who is believed.
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
    let connections = TaskTracker::new();
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    let from_source = sources.connection(address.ip());
                    if from_source.is_none() && !proxies.contains(address.ip()) {
                        // Dropping it closes it: until its head is read it asks for nothing that could be answered.
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
    let activity = place.activity().clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        // Policies ask for it (`aws:SourceIp`).
        let source = proxies.source(address, request.headers());
        request.extensions_mut().insert(source);
        let (busy, answer) = (activity.request(), api.call(request));
        async move { Ok::<_, Infallible>(answer.await?.map(|body| BusyBody { body, _busy: busy })) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(READ_AHEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        // A request may have come in the moment in which its connection was told to go: it is answered.
        () = place.needed().cancelled() => {
            if place.is_busy() {
                connection.as_mut().graceful_shutdown();
                connection.await
            } else {
                Ok(())
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an API connection broke");
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
