//! HTTP/2 connections to apps (h2c with prior knowledge, RFC 9113, section 3.3), shared by the
//! requests to one port of one life of a microVM, whichever worker they are served on. A
//! connection's task lives on the worker that opened it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_node::Passing;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::app_port::AppPort;
use crate::refusal::Refusal;
use crate::request_body::AppBody;
use crate::send_error::SendError;

/// Streams on one connection; more are opened on another. Servers commonly allow 100 (RFC 9113,
/// section 6.5.2, recommends no fewer).
const STREAMS_MAX: usize = 100;
/// How long a connection without streams is kept.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// How often that is looked at.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(5);

/// The connections to one port; locked while one is being opened, so that requests that
/// arrive together share it.
type Port = Arc<tokio::sync::Mutex<Vec<Open>>>;

/// The shared connections of all microVMs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ports: Mutex<HashMap<AppPort, Port>>,
    filled: Notify,
}

#[derive(Debug)]
struct Open {
    sender: SendRequest<AppBody>,
    /// Cloned by every stream.
    streams: Arc<()>,
    used: Instant,
}

/// The right to open one stream.
#[derive(Debug)]
pub(crate) struct Stream {
    sender: SendRequest<AppBody>,
    open: Arc<()>,
}

/// Body of an answer; the stream counts as open until it is dropped.
#[derive(Debug)]
pub(crate) struct Http2Answer {
    pub(crate) body: Incoming,
    /// As long as it has not been read, its microVM is not suspended.
    pub(crate) passing: Option<Passing>,
    _open: Arc<()>,
}

impl Streams {
    /// A stream on a connection that is open, or on one made by `open`. Whether the connection was
    /// used before is the second member.
    pub(crate) async fn stream(
        &self,
        place: &AppPort,
        open: impl Future<Output = Result<SendRequest<AppBody>, Refusal>>,
    ) -> Result<(Stream, bool), Refusal> {
        let port = Arc::clone(self.lock().entry(place.clone()).or_default());
        let mut connections = port.lock().await;
        connections.retain(|connection| !connection.sender.is_closed());
        let shared = connections.iter_mut().find(|connection| connection.streams() < STREAMS_MAX);
        if let Some(connection) = shared {
            return Ok((connection.stream(), true));
        }
        let mut connection = Open { sender: open.await?, streams: Arc::default(), used: Instant::now() };
        let stream = connection.stream();
        connections.push(connection);
        self.shared.filled.notify_one();
        Ok((stream, false))
    }

    /// Closes what was idle for too long; never ends.
    pub(crate) async fn expire(&self) {
        loop {
            self.shared.filled.notified().await;
            while !self.sweep() {
                tokio::time::sleep(EXPIRY_INTERVAL).await;
            }
        }
    }

    /// Whether nothing is left.
    fn sweep(&self) -> bool {
        let mut ports = self.lock();
        ports.retain(|_, port| {
            // One that is locked is in use.
            let Ok(mut connections) = port.try_lock() else { return true };
            connections.retain(|connection| !connection.is_idle());
            !connections.is_empty() || Arc::strong_count(port) > 1
        });
        ports.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppPort, Port>> {
        self.shared.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn streams(&self) -> usize {
        Arc::strong_count(&self.streams) - 1
    }

    fn is_idle(&self) -> bool {
        self.sender.is_closed() || self.streams() == 0 && self.used.elapsed() >= IDLE_TIMEOUT
    }

    fn stream(&mut self) -> Stream {
        self.used = Instant::now();
        Stream { sender: self.sender.clone(), open: Arc::clone(&self.streams) }
    }
}

impl Stream {
    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn exchange(
        mut self,
        request: Request<AppBody>,
    ) -> Result<Response<Http2Answer>, Box<SendError>> {
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(response.map(|body| Http2Answer { body, passing: None, _open: self.open })),
            Err(mut failure) => {
                let request = failure.take_message();
                Err(Box::new(SendError { request, error: failure.into_error() }))
            }
        }
    }
}
