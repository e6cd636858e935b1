//! HTTP/1.1 connections to apps: one request at a time, kept for the next one for a moment.
//!
//! A connection has no task of its own: whoever uses it moves its bytes as well, first while
//! waiting for the head of the answer, then while reading its body. So a request costs no
//! switch between tasks.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hearth_node::Passing;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::app_port::AppPort;
use crate::request_body::AppBody;
use crate::send_error::{SendError, io_cause};

/// How long an idle connection is kept. Less than the two seconds after which gunicorn closes one,
/// so that a request hardly ever meets a connection that is being closed; and short, as an app that
/// serves one connection at a time cannot serve others meanwhile.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle connections that a worker keeps for one port of one microVM. Hundreds of answers may end at
/// the same moment, and be followed by as many requests: closing connections then costs the ports
/// that they came from for a minute (`TIME_WAIT`).
const IDLE_MAX: usize = 1024;

/// Open connections of its own to one port with which a worker takes none of another's any more:
/// what is done on that one wakes the other thread. An app that serves this many serves one more.
const OWN_ENOUGH: usize = 8;

/// Moves a connection's bytes; resolves when the connection or the microVM's life has ended.
pub(crate) struct Driver {
    served: Pin<Box<dyn Future<Output = ()> + Send>>,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Driver {
    /// `served` moves the bytes, until `over`.
    pub(crate) fn new(
        served: impl Future<Output = ()> + Send + 'static,
        over: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { served: Box::pin(served), over: Box::pin(over) }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.over.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        self.served.as_mut().poll(context)
    }
}

/// The idle connections to all microVMs, as a worker sees them: its own ones first.
#[derive(Debug, Clone)]
pub(crate) struct Kept(Arc<KeptOf>);

#[derive(Debug)]
struct KeptOf {
    /// Which of `all` is its own.
    worker: usize,
    all: Arc<[Pool]>,
}

/// The idle connections that were made on one worker.
#[derive(Debug, Default)]
struct Pool {
    ports: Mutex<HashMap<AppPort, Port>>,
    /// Something is kept where nothing was.
    filled: Notify,
}

/// Those to one port.
#[derive(Debug, Default)]
struct Port {
    idle: Vec<(Http1Connection, Instant)>,
    open: Open,
}

/// Held by every connection, idle or not, that was kept once.
type Open = Arc<()>;

/// A connection to an app.
pub(crate) struct Http1Connection {
    sender: SendRequest<AppBody>,
    /// None when it has ended.
    driver: Option<Driver>,
    /// The worker that it was made on, once it has been kept.
    home: Option<(usize, Open)>,
}

impl std::fmt::Debug for Http1Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http1Connection").field("ended", &self.driver.is_none()).finish_non_exhaustive()
    }
}

/// Body of an answer, with the connection that it comes on.
#[derive(Debug)]
pub(crate) struct Http1Answer {
    body: Incoming,
    ended: bool,
    /// A reset of the connection is as good an end as any: an app that closes it with a request
    /// unread resets it, and has said all that it wants to say before.
    is_cut_by_reset: bool,
    /// None when the connection is moved by a task, or is of no more use.
    connection: Option<Lease>,
    /// As long as it has not been read, its microVM is not suspended.
    pub(crate) passing: Option<Passing>,
}

#[derive(Debug)]
struct Lease {
    connection: Http1Connection,
    place: AppPort,
    kept: Kept,
}

impl Http1Connection {
    pub(crate) fn new(sender: SendRequest<AppBody>, driver: Driver) -> Self {
        Self { sender, driver: Some(driver), home: None }
    }

    /// Whether a request can be sent; notices what happened while nobody moved the connection. Not
    /// the end of a life, which the request that is to be sent notices: it takes a lock that all
    /// connections to the microVM share.
    fn is_ready(&mut self) -> bool {
        let Some(driver) = &mut self.driver else { return false };
        if driver.served.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            self.driver = None;
            return false;
        }
        self.sender.is_ready()
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn exchange(
        mut self,
        mut request: Request<AppBody>,
        place: AppPort,
        kept: &Kept,
    ) -> Result<Response<Http1Answer>, Box<SendError>> {
        let unsent = request.body_mut().watch();
        let mut answering = std::pin::pin!(self.sender.try_send_request(request));
        let answered = std::future::poll_fn(|context| {
            drive(&mut self.driver, context);
            answering.as_mut().poll(context)
        });
        let response = answered.await.map_err(|mut failure| {
            let request = failure.take_message();
            Box::new(SendError { request, error: failure.into_error() })
        })?;
        // Of a body that goes to its connection's end nobody knows how long it is.
        let is_cut_by_reset = unsent.is_some()
            && [CONTENT_LENGTH, TRANSFER_ENCODING]
                .iter()
                .all(|field| !response.headers().contains_key(field));
        let sending = unsent.is_some_and(|unsent| Arc::strong_count(&unsent) > 1);
        let connection = if sending || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // The two directions go on independently of each other.
            if let Some(driver) = self.driver.take() {
                tokio::spawn(driver);
            }
            None
        } else {
            Some(Lease { connection: self, place, kept: kept.clone() })
        };
        Ok(response.map(|body| Http1Answer {
            body,
            ended: false,
            is_cut_by_reset,
            connection,
            passing: None,
        }))
    }
}

/// Moves a connection's bytes, and notices its end.
fn drive(driver: &mut Option<Driver>, context: &mut Context<'_>) {
    if driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(context).is_ready()) {
        *driver = None;
    }
}

impl Body for Http1Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending()
            && let Some(lease) = &mut self.connection
        {
            drive(&mut lease.connection.driver, context);
            frame = Pin::new(&mut self.body).poll_frame(context);
        }
        if self.is_cut_by_reset
            && let Poll::Ready(Some(Err(error))) = &frame
            && io_cause(error) == Some(io::ErrorKind::ConnectionReset)
        {
            return Poll::Ready(None);
        }
        self.ended |= matches!(frame, Poll::Ready(None));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Http1Answer {
    /// Keeps the connection if the whole body was read; else it is closed.
    fn drop(&mut self) {
        if let Some(Lease { mut connection, place, kept }) = self.connection.take()
            && (self.ended || self.body.is_end_stream())
            && connection.is_ready()
        {
            kept.keep(place, connection);
        }
    }
}

impl Kept {
    /// The connections of all workers, as the first of them sees them.
    pub(crate) fn new(workers: usize) -> Self {
        Self(Arc::new(KeptOf { worker: 0, all: (0..workers).map(|_| Pool::default()).collect() }))
    }

    /// As another worker sees it.
    pub(crate) fn of_worker(&self, worker: usize) -> Self {
        Self(Arc::new(KeptOf { worker, all: Arc::clone(&self.0.all) }))
    }

    /// A connection that can take a request: one of this worker, else one of another, if this one
    /// has few. An app may serve only one connection at a time, and then would serve no other as
    /// long as that one is kept.
    pub(crate) fn take(&self, place: &AppPort) -> Option<Http1Connection> {
        let (before, from_own_on) = self.0.all.split_at(self.0.worker);
        let (own, after) = from_own_on.split_first()?;
        match own.take(place) {
            Ok(connection) => Some(connection),
            Err(open) if open >= OWN_ENOUGH => None,
            Err(_) => after.iter().chain(before).find_map(|pool| pool.take(place).ok()),
        }
    }

    /// Keeps it where it was made, as it is that worker's thread that hears of its socket.
    fn keep(&self, place: AppPort, connection: Http1Connection) {
        let home = connection.home.as_ref().map_or(self.0.worker, |(worker, _)| *worker);
        self.0.all[home].keep(home, place, connection);
    }

    /// Closes what this worker has kept for too long; never ends.
    pub(crate) async fn expire(&self) {
        self.0.all[self.0.worker].expire().await;
    }
}

impl Port {
    /// How many connections there are.
    fn open(&self) -> usize {
        Arc::strong_count(&self.open) - 1
    }
}

impl Pool {
    /// One that can take a request, or how many there are that are in use.
    fn take(&self, place: &AppPort) -> Result<Http1Connection, usize> {
        let mut ports = self.lock();
        let Some(port) = ports.get_mut(place) else { return Err(0) };
        while let Some((mut connection, since)) = port.idle.pop() {
            if since.elapsed() < IDLE_TIMEOUT && connection.is_ready() {
                return Ok(connection);
            }
        }
        let open = port.open();
        if open == 0 {
            ports.remove(place);
        }
        Err(open)
    }

    fn keep(&self, worker: usize, place: AppPort, mut connection: Http1Connection) {
        let mut ports = self.lock();
        if ports.is_empty() {
            self.filled.notify_one();
        }
        let port = ports.entry(place).or_default();
        if port.idle.len() < IDLE_MAX {
            connection.home.get_or_insert_with(|| (worker, Arc::clone(&port.open)));
            port.idle.push((connection, Instant::now()));
        }
    }

    async fn expire(&self) {
        loop {
            self.filled.notified().await;
            loop {
                tokio::time::sleep(IDLE_TIMEOUT).await;
                let mut ports = self.lock();
                ports.retain(|_, port| {
                    port.idle.retain_mut(|(connection, since)| {
                        since.elapsed() < IDLE_TIMEOUT && connection.is_ready()
                    });
                    port.open() > 0
                });
                if ports.is_empty() {
                    break;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppPort, Port>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
