//! Connections to apps: opened, counted, kept for the next request, closed when the microVM's life ends.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hearth_api::MicrovmId;
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::backend::RunningApp;
use crate::refusal::Refusal;
use crate::serve::Stop;

/// How long an idle connection is kept. Less than the two seconds after which gunicorn closes one, so that a request
/// hardly ever meets a connection that is being closed; and short, as an app that serves one connection at a time
/// cannot serve others meanwhile.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle connections kept for one port of one microVM.
const IDLE_MAX: usize = 16;

/// Body of a request to the app: the client's, or none when a request without one is sent again.
pub(crate) type AppBody = Either<Incoming, Empty<Bytes>>;

/// The idle connections of all microVMs.
#[derive(Debug, Clone, Default)]
pub(crate) struct AppConnections {
    idle: Arc<Mutex<HashMap<Place, Vec<Idle>>>>,
}

/// Where a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    microvm: MicrovmId,
    generation: u64,
    port: u16,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<AppBody>,
    since: Instant,
}

/// A connection that is ready for one request.
#[derive(Debug)]
pub(crate) struct AppConnection {
    sender: SendRequest<AppBody>,
    place: Place,
    /// Whether it was used before.
    kept: bool,
}

impl AppConnections {
    /// A connection to `port`: one that was kept, or a fresh one.
    pub(crate) async fn connect<R: RunningApp>(
        &self,
        running: &R,
        port: u16,
        stop: &Stop,
    ) -> Result<AppConnection, Refusal> {
        let place = Place { microvm: running.id().clone(), generation: running.generation(), port };
        if let Some(sender) = self.take(&place) {
            return Ok(AppConnection { sender, place, kept: true });
        }
        let sender = until_ended(running, open(running, port, stop)).await??;
        Ok(AppConnection { sender, place, kept: false })
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// A connection that was kept may have been closed by the app meanwhile; then a fresh one is used, if the request
    /// was not sent, or is one that may be repeated (RFC 9110, section 9.2.2) and has no body.
    pub(crate) async fn send<R: RunningApp>(
        &self,
        connection: AppConnection,
        request: Request<AppBody>,
        running: &R,
        stop: &Stop,
    ) -> Result<Response<Incoming>, Refusal> {
        let AppConnection { sender, place, kept } = connection;
        let again = kept.then(|| repeatable(&request)).flatten();
        let (unsent, error) = match until_ended(running, self.exchange(sender, request, &place)).await? {
            Ok(response) => return Ok(response),
            Err(failure) => *failure,
        };
        let Some(request) = unsent.filter(|_| kept).or(again) else { return Err(refusal_of(&error)) };
        let fresh = async {
            let sender = open(running, place.port, stop).await?;
            self.exchange(sender, request, &place).await.map_err(|failure| refusal_of(&failure.1))
        };
        until_ended(running, fresh).await?
    }

    /// Sends on one connection, and sees to it that the connection is kept once the answer's body has been read.
    /// The error holds the request if nothing of it was sent.
    async fn exchange(
        &self,
        mut sender: SendRequest<AppBody>,
        request: Request<AppBody>,
        place: &Place,
    ) -> Result<Response<Incoming>, Box<(Option<Request<AppBody>>, hyper::Error)>> {
        let response = sender.try_send_request(request).await.map_err(|mut failure| {
            let unsent = failure.take_message();
            Box::new((unsent, failure.into_error()))
        })?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (connections, place) = (self.clone(), place.clone());
            tokio::spawn(async move {
                if sender.ready().await.is_ok() {
                    connections.keep(place.clone(), sender);
                    tokio::time::sleep(IDLE_TIMEOUT).await;
                    connections.expire(&place);
                }
            });
        }
        Ok(response)
    }

    fn take(&self, place: &Place) -> Option<SendRequest<AppBody>> {
        let mut idle = self.lock();
        let kept = idle.get_mut(place)?;
        while let Some(Idle { sender, since }) = kept.pop() {
            if sender.is_ready() && since.elapsed() < IDLE_TIMEOUT {
                return Some(sender);
            }
        }
        idle.remove(place);
        None
    }

    fn keep(&self, place: Place, sender: SendRequest<AppBody>) {
        let mut idle = self.lock();
        let kept = idle.entry(place).or_default();
        if kept.len() < IDLE_MAX {
            kept.push(Idle { sender, since: Instant::now() });
        }
    }

    fn expire(&self, place: &Place) {
        let mut idle = self.lock();
        if let Some(kept) = idle.get_mut(place) {
            kept.retain(|idle| idle.since.elapsed() < IDLE_TIMEOUT);
            if kept.is_empty() {
                idle.remove(place);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives up when the microVM's life ends.
async fn until_ended<R: RunningApp, T>(running: &R, work: impl Future<Output = T>) -> Result<T, Refusal> {
    tokio::select! {
        biased;
        () = running.ended() => Err(Refusal::MicrovmUnreachable),
        result = work => Ok(result),
    }
}

/// A copy of a request that may be sent twice.
fn repeatable(request: &Request<AppBody>) -> Option<Request<AppBody>> {
    if !request.method().is_idempotent() || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(Either::Right(Empty::new()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Opens a connection and serves it until the microVM's life ends.
async fn open<R: RunningApp>(running: &R, port: u16, stop: &Stop) -> Result<SendRequest<AppBody>, Refusal> {
    let stream = running.connect(port).await.map_err(|error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            return Refusal::PortDenied;
        }
        tracing::debug!(microvm = %running.id(), %error, "microVM could not be reached");
        Refusal::MicrovmUnreachable
    })?;
    let stream = Counted { stream, running: running.clone() };
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| refusal_of(&error))?;
    let (ended, now) = (running.ended(), stop.now.clone());
    tokio::spawn(async move {
        tokio::select! {
            // The error is also that of the request.
            _ = connection.with_upgrades() => {}
            () = ended => {}
            () = now.cancelled() => {}
        }
    });
    Ok(sender)
}

/// An app that closes the connection or answers in another protocol is as good as none.
fn refusal_of(error: &hyper::Error) -> Refusal {
    tracing::debug!(error = error as &dyn std::error::Error, "the app did not answer");
    Refusal::AppUnreachable
}

/// Reports every byte to and from the app.
#[derive(Debug)]
struct Counted<R: RunningApp> {
    stream: R::Stream,
    running: R,
}

impl<R: RunningApp> AsyncRead for Counted<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.running.traffic((buffer.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl<R: RunningApp> AsyncWrite for Counted<R> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.running.traffic(written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        self.running.traffic(written as u64);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
