//! Connections to apps: opened, counted, used for several requests, closed when the
//! microVM's life ends.

use std::sync::Arc;
use std::task::{Context, Waker};

use hearth_node::{Destination, Life};
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::answer_body::AnswerBody;
use crate::app_port::AppPort;
use crate::counted::Counted;
use crate::http1::{Driver, Http1Connection, Kept};
use crate::http2::{Stream, Streams};
use crate::layer::{AppProtocol, Layer};
use crate::limits::Usages;
use crate::ports::{Ports, may_want_tls};
use crate::refusal::Refusal;
use crate::request_body::AppBody;
use crate::send_error::{SendError, io_cause};
use crate::stop::Stop;
use crate::target::{Target, Wanted, address, repeatable};
use crate::upstream_tls::{AppTls, UpstreamTls};

/// What may be under way to the endpoint on one HTTP/2 stream of an app, in bytes, beside what the
/// client has not read.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
/// What may be under way on all streams of one connection of an app, in bytes.
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What is kept of one stream until the app takes it, in bytes.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;

/// Errors of a host that has too little of something, by which no microVM is to be blamed.
const WANTING: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL];

/// The connections to the apps of all microVMs, as one worker uses them.
#[derive(Debug, Clone)]
pub(crate) struct AppConnections {
    kept: Kept,
    streams: Streams,
    usages: Arc<Usages>,
    ports: Ports,
    tls: UpstreamTls,
}

/// A connection that is ready for one request.
#[derive(Debug)]
pub(crate) struct AppConnection {
    on: On,
    place: AppPort,
    /// Whether it was used before.
    kept: bool,
    /// What is known of the port. An HTTP/1.1 connection that was used before has told all
    /// that there is to know.
    layer: Option<Layer>,
}

#[derive(Debug)]
enum On {
    Http1(Http1Connection),
    Http2(Stream),
}

impl On {
    fn protocol(&self) -> AppProtocol {
        match self {
            Self::Http1(_) => AppProtocol::Http1,
            Self::Http2(_) => AppProtocol::Http2,
        }
    }
}

/// A fresh connection to an app.
enum Upstream<L: Life> {
    Plain(Counted<L>),
    /// In a box, as it is many times larger.
    Tls(Box<AppTls<Counted<L>>>),
}

/// Why a request got no answer from the app.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) refusal: Refusal,
    /// The request, if nothing of it has reached the app.
    pub(crate) unsent: Option<Request<AppBody>>,
}

impl From<Refusal> for Box<Failure> {
    fn from(refusal: Refusal) -> Self {
        Self::new(Failure { refusal, unsent: None })
    }
}

impl AppConnections {
    /// The connections of all workers, as the first of them uses them.
    pub(crate) fn new(usages: Arc<Usages>, workers: usize) -> Result<Self, rustls::Error> {
        let (kept, streams) = (Kept::new(workers), Streams::default());
        Ok(Self { kept, streams, usages, ports: Ports::new(), tls: UpstreamTls::new()? })
    }

    /// As another worker uses them.
    pub(crate) fn of_worker(&self, worker: usize) -> Self {
        Self { kept: self.kept.of_worker(worker), ..self.clone() }
    }

    /// Closes connections that are kept for too long; never ends.
    pub(crate) async fn expire(&self) {
        tokio::join!(self.kept.expire(), self.streams.expire());
    }

    /// A connection to an app: one that is there, or a fresh one.
    pub(crate) async fn connect<L: Life>(
        &self,
        running: &L,
        target: Target<'_>,
        stop: &Stop,
    ) -> Result<AppConnection, Refusal> {
        let place = AppPort::new(running, target.port);
        if target.wanted != Wanted::Http2
            && let Some(connection) = self.kept.take(&place)
        {
            let (on, layer) = (On::Http1(connection), Some(Layer::Plain));
            return Ok(AppConnection { on, place, kept: true, layer });
        }
        // In a box, as is the second attempt: most requests have no use for their state, but
        // would have to carry it.
        Box::pin(self.reconnect(running, place, target, stop)).await
    }

    async fn stream<L: Life>(&self, running: &L, port: u16) -> Result<Counted<L>, Refusal> {
        let usage = self.usages.of(running.id(), running.vcpus());
        let permit = usage.app_connection().await?;
        let stream = connect(running, port).await?;
        Ok(Counted::new(stream, running.clone(), usage, permit))
    }

    async fn reconnect<L: Life>(
        &self,
        running: &L,
        place: AppPort,
        target: Target<'_>,
        stop: &Stop,
    ) -> Result<AppConnection, Refusal> {
        let opening = async {
            let layer = self.ports.layer(&place);
            let opened = self.open(running, &place, layer, target, stop).await;
            let is_outdated = opened.is_err() && layer.is_some() && self.ports.layer(&place).is_none();
            let (layer, opened) = match opened {
                // Nothing was sent yet.
                Err(_) if is_outdated => (None, self.open(running, &place, None, target, stop).await),
                opened => (layer, opened),
            };
            opened.map(|(on, kept)| (on, kept, layer))
        };
        let (on, kept, layer) = tokio::select! {
            biased;
            () = running.ended() => return Err(Refusal::MicrovmUnreachable),
            opened = opening => opened?,
        };
        Ok(AppConnection { on, place, kept, layer })
    }

    /// A fresh connection, or a stream on one; whether that was used before.
    async fn open<L: Life>(
        &self,
        running: &L,
        place: &AppPort,
        layer: Option<Layer>,
        target: Target<'_>,
        stop: &Stop,
    ) -> Result<(On, bool), Refusal> {
        let protocol = target.wanted.on(layer);
        let stream = async {
            let stream = self.stream(running, place.port()).await?;
            let Some(Layer::Tls(preferred)) = layer else { return Ok(Upstream::Plain(stream)) };
            let secured = self.tls.connect(stream, target.authority.host(), protocol).await;
            secured.map(Box::new).map(Upstream::Tls).map_err(|error| {
                tracing::debug!(microvm = %running.id(), %error, "TLS handshake with the app failed");
                if protocol == preferred && error.kind() != std::io::ErrorKind::ConnectionRefused {
                    self.ports.forget(place);
                }
                Refusal::AppUnreachable
            })
        };
        match protocol {
            AppProtocol::Http1 => {
                let connection = match stream.await? {
                    Upstream::Plain(stream) => open_http1(stream, running, stop).await?,
                    Upstream::Tls(stream) => open_http1(stream, running, stop).await?,
                };
                Ok((On::Http1(connection), false))
            }
            AppProtocol::Http2 => {
                let open = async {
                    match stream.await? {
                        Upstream::Plain(stream) => open_http2(stream, running, stop).await,
                        Upstream::Tls(stream) => open_http2(stream, running, stop).await,
                    }
                };
                let (stream, kept) = self.streams.stream(place, open).await?;
                Ok((On::Http2(stream), kept))
            }
        }
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// A connection that was used before may have been closed by the app meanwhile; then another
    /// one is used, if the request was not sent, or is one that may be repeated (RFC 9110,
    /// section 9.2.2) and has no body. So it is, once, with a fresh connection on which nothing
    /// could be sent. The same request is sent again with TLS when the first answer of a port
    /// shows that it wants that.
    pub(crate) async fn send<L: Life>(
        &self,
        connection: AppConnection,
        mut request: Request<AppBody>,
        running: &L,
        target: Target<'_>,
        stop: &Stop,
    ) -> Result<Response<AnswerBody>, Box<Failure>> {
        let AppConnection { on, place, kept, layer } = connection;
        let again = (kept || layer.is_none()).then(|| repeatable(&request)).flatten();
        address(&mut request, target.authority, on.protocol(), layer)?;
        let answer = self.exchange(on, request, place).await;
        let doubtful = match &answer {
            Ok(response) => layer.is_none() && may_want_tls(response),
            // An error of the user is that of a body: the client has gone.
            Err(failure) => layer.is_none() && !failure.error.is_user() && !was_refused(&failure.error),
        };
        let answer = match answer {
            Ok(response) if !doubtful => {
                if layer.is_none() {
                    self.ports.plain(&AppPort::new(running, target.port));
                }
                return Ok(response);
            }
            answer => answer,
        };
        let second = async {
            let place = AppPort::new(running, target.port);
            let wants_tls = doubtful && self.wants_tls(running, &place, target).await;
            let (first, unsent) = match answer {
                Ok(response) => (Ok(response), None),
                Err(failure) => (Err(failure.error), failure.request),
            };
            let is_unsent = unsent.is_some();
            // A connection that was dead as soon as it was opened costs no request,
            // unless nobody listens.
            let was_dead = first.as_ref().is_err_and(|error| kept || is_unsent && !was_refused(error));
            let goes_on = (was_dead || wants_tls) && !has_ended(running);
            let mut request = match (first, unsent.or_else(|| again.filter(|_| goes_on))) {
                (Ok(response), None) => return Ok(response),
                (Err(error), unsent) if !goes_on => {
                    return Err(Box::new(Failure { refusal: refusal_of(&error, running), unsent }));
                }
                (Err(error), None) => return Err(refusal_of(&error, running).into()),
                (_, Some(request)) => request,
            };
            let connection = match self.reconnect(running, place, target, stop).await {
                Ok(connection) => connection,
                Err(refusal) => {
                    return Err(Box::new(Failure { refusal, unsent: is_unsent.then_some(request) }));
                }
            };
            let AppConnection { on, place, layer, .. } = connection;
            address(&mut request, target.authority, on.protocol(), layer)?;
            self.exchange(on, request, place).await.map_err(|failure| {
                let unsent = failure.request.filter(|_| is_unsent);
                Box::new(Failure { refusal: refusal_of(&failure.error, running), unsent })
            })
        };
        Box::pin(second).await
    }

    /// Whether a port whose first answer is none of plain HTTP speaks TLS.
    async fn wants_tls<L: Life>(&self, running: &L, place: &AppPort, target: Target<'_>) -> bool {
        let probe = async {
            let stream = self.stream(running, place.port()).await.ok()?;
            self.tls.probe(stream, target.authority.host()).await
        };
        let layer = tokio::select! {
            biased;
            () = running.ended() => None,
            layer = self.ports.settle(place, probe) => layer,
        };
        matches!(layer, Some(Layer::Tls(_)))
    }

    async fn exchange(
        &self,
        on: On,
        request: Request<AppBody>,
        place: AppPort,
    ) -> Result<Response<AnswerBody>, Box<SendError>> {
        match on {
            On::Http1(connection) => {
                let response = connection.exchange(request, place, &self.kept).await?;
                Ok(response.map(AnswerBody::Http1))
            }
            On::Http2(stream) => Ok(stream.exchange(request).await?.map(AnswerBody::Http2)),
        }
    }
}

async fn connect<L: Life>(running: &L, port: u16) -> Result<L::Stream, Refusal> {
    running.connect(Destination::App(port)).await.map_err(|error| {
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            return Refusal::PortDenied;
        }
        tracing::debug!(microvm = %running.id(), %error, "microVM could not be reached");
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        if errno.is_some_and(|errno| WANTING.contains(&errno)) {
            tracing::error!(microvm = %running.id(), %error, "this host cannot open another connection");
            return Refusal::Internal;
        }
        Refusal::MicrovmUnreachable
    })
}

/// Opens a connection; it ends with the microVM's life.
async fn open_http1<L: Life>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    running: &L,
    stop: &Stop,
) -> Result<Http1Connection, Refusal> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| refusal_of(&error, running))?;
    // The error is also that of the request.
    let served = async { drop(connection.with_upgrades().await) };
    Ok(Http1Connection::new(sender, Driver::new(served, over(running.ended(), stop.clone()))))
}

/// Opens a connection for many requests and serves it until the microVM's life ends.
async fn open_http2<L: Life>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    running: &L,
    stop: &Stop,
) -> Result<hyper::client::conn::http2::SendRequest<AppBody>, Refusal> {
    let tasks = Tasks::default();
    let handshake = hyper::client::conn::http2::Builder::new(tasks.clone())
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = handshake.map_err(|error| refusal_of(&error, running))?;
    let served = async { drop(connection.await) };
    let driver = Driver::new(served, over(running.ended(), stop.clone()));
    tokio::spawn(async move {
        driver.await;
        tasks.end.cancel();
    });
    Ok(sender)
}

/// Runs the tasks of one HTTP/2 connection, until it ends.
#[derive(Debug, Clone, Default)]
struct Tasks {
    end: CancellationToken,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let end = self.end.clone();
        tokio::spawn(async move { end.run_until_cancelled(task).await });
    }
}

/// Resolves when connections are to be cut.
async fn over(ended: impl Future<Output = ()>, stop: Stop) {
    tokio::select! {
        () = ended => {}
        () = stop.now.cancelled() => {}
    }
}

/// Whether the microVM's life is over, by which its connections were cut.
pub(crate) fn has_ended<L: Life>(running: &L) -> bool {
    std::pin::pin!(running.ended()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Whether nobody listens on the port.
fn was_refused(error: &hyper::Error) -> bool {
    io_cause(error) == Some(std::io::ErrorKind::ConnectionRefused)
}

/// An app that closes the connection or answers in another protocol is as good as none.
fn refusal_of<L: Life>(error: &hyper::Error, running: &L) -> Refusal {
    if has_ended(running) {
        return Refusal::MicrovmUnreachable;
    }
    tracing::debug!(error = error as &dyn std::error::Error, "the app did not answer");
    Refusal::AppUnreachable
}
