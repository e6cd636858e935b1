//! One request from its head to the last byte of its answer: counted, and written to the access
//! log when it is over.
//!
//! A [`Call`] is told what becomes of the request. Its clones go with the bodies and, after an
//! upgrade, with the tunnel; the last of them to be dropped writes the line.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf as _, Bytes};
use hearth_api::MicrovmId;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::access_log::{AccessLog, Entry};
use crate::activity::Busy;
use crate::counters::{Counters, MicrovmCounters};
use crate::refusal::Refusal;
use crate::wake::Permit;

/// Where requests are counted and logged; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// Counted always.
    pub counters: Arc<Counters>,
    /// Logged if the operator wants it.
    pub access_log: Option<Arc<AccessLog>>,
}

/// A request; clones stand for the same one.
#[derive(Debug, Clone)]
pub(crate) struct Call(Arc<State>);

/// What is held as long as a stream of HTTP/2 is open: until the answer has gone, or the
/// tunnel that it became.
pub(crate) type OpenStream = Arc<AtomicU64>;

#[derive(Debug)]
struct State {
    observation: Arc<Observation>,
    _open: Option<OpenStream>,
    /// Its connection is not idle.
    _busy: Busy,
    began: Instant,
    /// Only for the log.
    head: Option<Head>,
    admitted: OnceLock<Admitted>,
    outcome: OnceLock<Outcome>,
    resume_wait: OnceLock<std::time::Duration>,
    place: OnceLock<Option<Permit>>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

#[derive(Debug)]
struct Head {
    time: Timestamp,
    request_id: HeaderValue,
    client: SocketAddr,
    method: http::Method,
    uri: http::Uri,
    version: http::Version,
}

#[derive(Debug)]
struct Admitted {
    microvm: MicrovmId,
    port: u16,
    counters: Arc<MicrovmCounters>,
}

#[derive(Debug)]
struct Outcome {
    status: StatusCode,
    error: Option<&'static str>,
}

impl Observation {
    /// A request whose head has come.
    pub(crate) fn begin<B>(
        self: &Arc<Self>,
        request: &Request<B>,
        request_id: &HeaderValue,
        client: SocketAddr,
        (open, busy): (Option<OpenStream>, Busy),
    ) -> Call {
        let head = self.access_log.is_some().then(|| Head {
            time: Timestamp::now(),
            request_id: request_id.clone(),
            client,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
        });
        Call(Arc::new(State {
            observation: Arc::clone(self),
            _open: open,
            _busy: busy,
            began: Instant::now(),
            head,
            admitted: OnceLock::new(),
            outcome: OnceLock::new(),
            resume_wait: OnceLock::new(),
            place: OnceLock::new(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }))
    }
}

impl Call {
    /// Its token is good.
    pub(crate) fn admitted(&self, microvm: &MicrovmId, port: u16) {
        let counters = self.0.observation.counters.entry(microvm);
        counters.request();
        // A request is admitted once.
        let _ = self.0.admitted.set(Admitted { microvm: microvm.clone(), port, counters });
    }

    /// Waits for the microVM. What is not there at once is a wait.
    pub(crate) async fn waking<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let first = std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        if let Poll::Ready(done) = first {
            return done;
        }
        let waiting = Waiting { call: self, began: Instant::now() };
        let done = work.await;
        drop(waiting);
        done
    }

    /// Keeps its place among those that waited with it until it is over.
    pub(crate) fn hold(&self, place: Option<Permit>) {
        let _ = self.0.place.set(place);
    }

    /// The app answers, or has switched protocols.
    pub(crate) fn answered(&self, status: StatusCode) {
        let _ = self.0.outcome.set(Outcome { status, error: None });
    }

    /// The endpoint itself answers.
    pub(crate) fn refused(&self, refusal: Refusal) {
        let (status, code) = refusal.status_and_code();
        let _ = self.0.outcome.set(Outcome { status, error: Some(code) });
        if let Some(admitted) = self.0.admitted.get() {
            admitted.counters.error();
        }
    }

    /// A part of the request's body has come.
    pub(crate) fn received(&self, bytes: u64) {
        self.count(Direction::In, bytes);
    }

    /// The body of the answer, counted as it passes.
    pub(crate) fn response_body<B>(&self, body: B) -> Observed<B> {
        Observed { body, call: self.clone() }
    }

    /// The client's side of a tunnel.
    pub(crate) fn tunnel<S>(&self, client: S) -> Metered<S> {
        Metered { client, call: self.clone() }
    }

    fn count(&self, direction: Direction, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let counters = self.0.admitted.get().map(|admitted| &admitted.counters);
        match direction {
            Direction::In => {
                self.0.bytes_in.fetch_add(bytes, Ordering::Relaxed);
                counters.inspect(|counters| counters.bytes_in(bytes));
            }
            Direction::Out => {
                self.0.bytes_out.fetch_add(bytes, Ordering::Relaxed);
                counters.inspect(|counters| counters.bytes_out(bytes));
            }
        }
    }
}

/// A wait that counts also when the client gives it up.
struct Waiting<'call> {
    call: &'call Call,
    began: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let state = &self.call.0;
        // A second attempt belongs to the same wait.
        if state.resume_wait.set(self.began.elapsed()).is_ok()
            && let Some(admitted) = state.admitted.get()
        {
            admitted.counters.resume_wait(self.began.elapsed());
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let (Some(log), Some(head)) = (&self.observation.access_log, self.head.take()) else { return };
        let milliseconds = |duration: std::time::Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
        let Head { time, request_id, client, method, uri, version } = head;
        let admitted = self.admitted.take();
        log.write(Entry {
            time,
            request_id,
            client,
            method,
            uri,
            version,
            port: admitted.as_ref().map(|admitted| admitted.port),
            microvm: admitted.map(|admitted| admitted.microvm),
            status: self.outcome.get().map(|outcome| outcome.status.as_u16()),
            error: self.outcome.get().and_then(|outcome| outcome.error),
            bytes_in: *self.bytes_in.get_mut(),
            bytes_out: *self.bytes_out.get_mut(),
            duration_milliseconds: milliseconds(self.began.elapsed()),
            resume_wait_milliseconds: self.resume_wait.get().copied().map(milliseconds),
        });
    }
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    In,
    Out,
}

/// A body whose bytes are counted.
#[derive(Debug)]
pub(crate) struct Observed<B> {
    body: B,
    call: Call,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Observed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.call.count(Direction::Out, data.remaining() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A client's connection after an upgrade, whose bytes are counted.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    client: S,
    call: Call,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.client).poll_read(context, buffer))?;
        self.call.count(Direction::In, (buffer.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.client).poll_write(context, bytes))?;
        self.call.count(Direction::Out, written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_shutdown(context)
    }
}
