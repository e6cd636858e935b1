//! Connections to apps: opened, counted, used for several requests, closed when the microVM's life ends.

use std::sync::Arc;
use std::task::{Context, Waker};

use hearth_api::MicrovmId;
use http::{Request, Response};
use hyper::body::Body as _;
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use crate::backend::RunningApp;
use crate::body::{AnswerBody, AppBody};
use crate::counted::Counted;
use crate::http1::{Http1Connection, Kept};
use crate::http2::{Stream, Streams};
use crate::limits::Usages;
use crate::refusal::Refusal;
use crate::serve::Stop;

/// What may be under way to the endpoint on one HTTP/2 stream of an app, in bytes, beside what the client has not read.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection.
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What is kept of one stream until the app takes it, in bytes.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;

/// Errors of a host that has too little of something, by which no microVM is to be blamed.
const WANTING: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL];

/// How an app is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppProtocol {
    Http1,
    Http2,
}

/// The connections to the apps of all microVMs, as one worker uses them.
#[derive(Debug, Clone)]
pub(crate) struct AppConnections {
    kept: Kept,
    streams: Streams,
    usages: Arc<Usages>,
}

/// Where a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    microvm: MicrovmId,
    generation: u64,
    port: u16,
}

/// A connection that is ready for one request.
#[derive(Debug)]
pub(crate) struct AppConnection {
    on: On,
    place: Place,
    /// Whether it was used before.
    kept: bool,
}

#[derive(Debug)]
enum On {
    Http1(Http1Connection),
    Http2(Stream),
}

/// Why there is no answer, with the request if nothing of it was sent.
#[derive(Debug)]
pub(crate) struct SendError {
    pub(crate) request: Option<Request<AppBody>>,
    pub(crate) error: hyper::Error,
}

impl Place {
    fn of<R: RunningApp>(running: &R, port: u16) -> Self {
        Self { microvm: running.id().clone(), generation: running.generation(), port }
    }
}

impl AppConnections {
    /// For so many workers, as the first of them uses them.
    pub(crate) fn new(usages: Arc<Usages>, workers: usize) -> Self {
        Self { kept: Kept::new(workers), streams: Streams::default(), usages }
    }

    /// As another worker uses them.
    pub(crate) fn of_worker(&self, worker: usize) -> Self {
        Self { kept: self.kept.of_worker(worker), ..self.clone() }
    }

    /// Closes connections that are kept for too long; never ends.
    pub(crate) async fn expire(&self) {
        tokio::join!(self.kept.expire(), self.streams.expire());
    }

    /// A connection to `port`: one that is there, or a fresh one.
    pub(crate) async fn connect<R: RunningApp>(
        &self,
        running: &R,
        port: u16,
        protocol: AppProtocol,
        stop: &Stop,
    ) -> Result<AppConnection, Refusal> {
        let place = Place::of(running, port);
        if protocol == AppProtocol::Http1
            && let Some(connection) = self.kept.take(&place)
        {
            return Ok(AppConnection { on: On::Http1(connection), place, kept: true });
        }
        // In a box, as is the second attempt: most requests have no use for their state, but would have to carry it.
        Box::pin(self.reconnect(running, place, protocol, stop)).await
    }

    async fn stream<R: RunningApp>(&self, running: &R, port: u16) -> Result<TokioIo<Counted<R>>, Refusal> {
        let stream = connect(running, port).await?;
        let usage = self.usages.of(running.id(), running.vcpus());
        Ok(TokioIo::new(Counted::new(stream, running.clone(), usage)))
    }

    async fn reconnect<R: RunningApp>(
        &self,
        running: &R,
        place: Place,
        protocol: AppProtocol,
        stop: &Stop,
    ) -> Result<AppConnection, Refusal> {
        let opening = async {
            match protocol {
                AppProtocol::Http1 => {
                    let connection =
                        open_http1(self.stream(running, place.port).await?, running, stop).await?;
                    Ok((On::Http1(connection), false))
                }
                AppProtocol::Http2 => {
                    let open =
                        async { open_http2(self.stream(running, place.port).await?, running, stop).await };
                    let (stream, kept) = self.streams.stream(&place, open).await?;
                    Ok((On::Http2(stream), kept))
                }
            }
        };
        let (on, kept) = tokio::select! {
            biased;
            () = running.ended() => return Err(Refusal::MicrovmUnreachable),
            opened = opening => opened?,
        };
        Ok(AppConnection { on, place, kept })
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// A connection that was used before may have been closed by the app meanwhile; then another one is used, if the
    /// request was not sent, or is one that may be repeated (RFC 9110, section 9.2.2) and has no body.
    pub(crate) async fn send<R: RunningApp>(
        &self,
        connection: AppConnection,
        request: Request<AppBody>,
        running: &R,
        stop: &Stop,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let AppConnection { on, place, kept } = connection;
        let port = place.port;
        let again = kept.then(|| repeatable(&request)).flatten();
        let protocol = match on {
            On::Http1(_) => AppProtocol::Http1,
            On::Http2(_) => AppProtocol::Http2,
        };
        let SendError { request: unsent, error } = match self.exchange(on, request, place).await {
            Ok(response) => return Ok(response),
            Err(failure) => *failure,
        };
        let Some(request) = unsent.filter(|_| kept).or(again).filter(|_| !has_ended(running)) else {
            return Err(refusal_of(&error, running));
        };
        let second = async {
            let place = Place::of(running, port);
            let AppConnection { on, place, .. } = self.reconnect(running, place, protocol, stop).await?;
            self.exchange(on, request, place).await.map_err(|failure| refusal_of(&failure.error, running))
        };
        Box::pin(second).await
    }

    async fn exchange(
        &self,
        on: On,
        request: Request<AppBody>,
        place: Place,
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

/// A copy of a request that may be sent twice.
fn repeatable(request: &Request<AppBody>) -> Option<Request<AppBody>> {
    if !request.method().is_idempotent() || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(AppBody::none());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

async fn connect<R: RunningApp>(running: &R, port: u16) -> Result<R::Stream, Refusal> {
    running.connect(port).await.map_err(|error| {
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
async fn open_http1<R: RunningApp>(
    stream: TokioIo<Counted<R>>,
    running: &R,
    stop: &Stop,
) -> Result<Http1Connection, Refusal> {
    let handshake = hyper::client::conn::http1::handshake(stream).await;
    let (sender, connection) = handshake.map_err(|error| refusal_of(&error, running))?;
    // The error is also that of the request.
    let served = async { drop(connection.with_upgrades().await) };
    Ok(Http1Connection::new(sender, Box::pin(until_ended(served, running.ended(), stop.clone()))))
}

/// Opens a connection for many requests and serves it until the microVM's life ends.
async fn open_http2<R: RunningApp>(
    stream: TokioIo<Counted<R>>,
    running: &R,
    stop: &Stop,
) -> Result<hyper::client::conn::http2::SendRequest<AppBody>, Refusal> {
    let tasks = Tasks::default();
    let handshake = hyper::client::conn::http2::Builder::new(tasks.clone())
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .handshake(stream)
        .await;
    let (sender, connection) = handshake.map_err(|error| refusal_of(&error, running))?;
    let served = until_ended(async { drop(connection.await) }, running.ended(), stop.clone());
    tokio::spawn(async move {
        served.await;
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

async fn until_ended(served: impl Future<Output = ()>, ended: impl Future<Output = ()>, stop: Stop) {
    tokio::select! {
        biased;
        () = ended => {}
        () = stop.now.cancelled() => {}
        () = served => {}
    }
}

/// Whether the microVM's life is over, by which its connections were cut.
fn has_ended<R: RunningApp>(running: &R) -> bool {
    std::pin::pin!(running.ended()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// An app that closes the connection or answers in another protocol is as good as none.
fn refusal_of<R: RunningApp>(error: &hyper::Error, running: &R) -> Refusal {
    if has_ended(running) {
        return Refusal::MicrovmUnreachable;
    }
    tracing::debug!(error = error as &dyn std::error::Error, "the app did not answer");
    Refusal::AppUnreachable
}
