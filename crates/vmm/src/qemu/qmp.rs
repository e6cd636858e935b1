//! A client of the QEMU Machine Protocol: JSON lines over a Unix socket (QEMU's
//! documentation, `interop/qmp-spec.rst`).
//!
//! One task reads; callers wait for the reply with their request's id. Whatever is not the protocol
//! closes the connection, and every waiting caller learns why.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_rate::Bucket;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, oneshot};

use super::commands::{Command, Event, QmpCapabilities, RawEvent};

/// A line longer than this is not QMP.
const MAX_LINE_BYTES: u64 = 1024 * 1024;
/// Lines that are read in a second. An operation takes a dozen, and QEMU limits the events
/// that a guest can cause.
const LINES_PER_SECOND: u64 = 500;
/// Bytes of a refusal's words that are kept.
const MAX_MESSAGE_BYTES: usize = 1000;
/// Events that a slow listener may be behind.
const EVENT_BACKLOG: usize = 64;

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum QmpError {
    /// QEMU says no.
    #[error("{command} was refused: {message}")]
    Refused {
        /// Command.
        command: &'static str,
        /// QEMU's words.
        message: String,
    },
    /// QEMU says nothing.
    #[error("{command} was not answered within {seconds} s")]
    TimedOut {
        /// Command.
        command: &'static str,
        /// Seconds waited.
        seconds: u64,
    },
    /// There is no connection any more.
    #[error("the connection is closed: {reason}")]
    Closed {
        /// Why.
        reason: String,
    },
}

/// A connection to one QEMU.
#[derive(Debug)]
pub(super) struct Qmp {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    shared: Arc<Shared>,
    next_id: AtomicU64,
    timeout: Duration,
}

/// What the reading task and the callers share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

#[derive(Debug)]
enum State {
    Open(HashMap<u64, oneshot::Sender<Reply>>),
    Closed(String),
}

#[derive(Debug)]
enum Reply {
    Success(Box<RawValue>),
    Failure(String),
}

#[derive(Serialize)]
struct Request<'a, C> {
    execute: &'static str,
    arguments: &'a C,
    id: u64,
}

/// Any line from QEMU; which one it is shows in the field that is there.
#[derive(Deserialize)]
struct Line {
    id: Option<u64>,
    #[serde(rename = "return")]
    success: Option<Box<RawValue>>,
    error: Option<Failure>,
    event: Option<String>,
}

#[derive(Deserialize)]
struct Failure {
    desc: String,
}

impl Qmp {
    /// Waits for QEMU's greeting and enters command mode. `timeout` is that of each command, too.
    pub(super) async fn connect(stream: UnixStream, timeout: Duration) -> Result<Self, QmpError> {
        let (reader, writer) = stream.into_split();
        let mut lines = BufReader::new(reader);
        match tokio::time::timeout(timeout, read_line(&mut lines)).await {
            Ok(Ok(line)) if line.starts_with(b"{\"QMP\"") => {}
            Ok(Ok(_)) => return Err(QmpError::Closed { reason: "the greeting is not QMP".into() }),
            Ok(Err(error)) => return Err(QmpError::Closed { reason: error.to_string() }),
            Err(_) => return Err(QmpError::TimedOut { command: "greeting", seconds: timeout.as_secs() }),
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Open(HashMap::new())),
            events: broadcast::Sender::new(EVENT_BACKLOG),
        });
        tokio::spawn(Arc::clone(&shared).read(lines));
        let qmp =
            Self { writer: tokio::sync::Mutex::new(writer), shared, next_id: AtomicU64::new(1), timeout };
        qmp.execute(&QmpCapabilities {}).await?;
        Ok(qmp)
    }

    /// Events from now on.
    pub(super) fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Runs a command.
    pub(super) async fn execute<C: Command>(&self, command: &C) -> Result<C::Reply, QmpError> {
        self.execute_with_descriptor(command, None).await
    }

    /// Runs a command with a descriptor beside it.
    pub(super) async fn execute_with_descriptor<C: Command>(
        &self,
        command: &C,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<C::Reply, QmpError> {
        match tokio::time::timeout(self.timeout, self.exchange(command, descriptor)).await {
            Ok(result) => result,
            Err(_) => Err(QmpError::TimedOut { command: C::NAME, seconds: self.timeout.as_secs() }),
        }
    }

    async fn exchange<C: Command>(
        &self,
        command: &C,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<C::Reply, QmpError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = Request { execute: C::NAME, arguments: command, id };
        let mut line = serde_json::to_vec(&request).expect("invariant: commands are plain data");
        line.push(b'\n');
        let reply = self.shared.expect_reply(id)?;
        let sent = send(&*self.writer.lock().await, &line, descriptor).await;
        sent.map_err(|error| self.shared.closed_error(&error.to_string()))?;
        match reply.await {
            Ok(Reply::Success(value)) => serde_json::from_str(value.get()).map_err(|error| {
                QmpError::Refused { command: C::NAME, message: format!("unexpected reply: {error}") }
            }),
            Ok(Reply::Failure(message)) => Err(QmpError::Refused { command: C::NAME, message }),
            Err(_) => Err(self.shared.closed_error("the reply was lost")),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect_reply(&self, id: u64) -> Result<oneshot::Receiver<Reply>, QmpError> {
        match &mut *self.state() {
            State::Open(waiting) => {
                let (reply_tx, reply_rx) = oneshot::channel();
                // Callers that gave up waiting leave entries behind.
                waiting.retain(|_, waiting| !waiting.is_closed());
                waiting.insert(id, reply_tx);
                Ok(reply_rx)
            }
            State::Closed(reason) => Err(QmpError::Closed { reason: reason.clone() }),
        }
    }

    fn closed_error(&self, otherwise: &str) -> QmpError {
        let reason = match &*self.state() {
            State::Closed(reason) => reason.clone(),
            State::Open(_) => otherwise.to_owned(),
        };
        QmpError::Closed { reason }
    }

    /// The reading task. Ends with the connection; that drops all waiting senders.
    ///
    /// A QEMU that a guest has taken over may write without end; it is read no faster than
    /// [`LINES_PER_SECOND`].
    async fn read(self: Arc<Self>, mut lines: BufReader<OwnedReadHalf>) {
        let pace = Bucket::new(LINES_PER_SECOND);
        let reason = loop {
            pace.wait().await;
            match read_line(&mut lines).await {
                Ok(line) => {
                    if let Err(error) = self.dispatch(&line) {
                        break format!("not QMP: {error}");
                    }
                }
                Err(error) => break error.to_string(),
            }
        };
        *self.state() = State::Closed(reason);
    }

    fn dispatch(&self, text: &[u8]) -> Result<(), serde_json::Error> {
        let line: Line = serde_json::from_slice(text)?;
        if line.event.is_some() {
            if let Some(event) = serde_json::from_slice::<RawEvent>(text)?.known() {
                // An error says that nobody listens, which is fine.
                let _ = self.events.send(event);
            }
            return Ok(());
        }
        let reply = match (line.success, line.error) {
            (Some(value), _) => Reply::Success(value),
            (None, Some(failure)) => Reply::Failure(clipped(failure.desc, MAX_MESSAGE_BYTES)),
            (None, None) => return Err(serde::de::Error::custom("neither a reply nor an event")),
        };
        if let (Some(id), State::Open(waiting)) = (line.id, &mut *self.state())
            && let Some(waiting) = waiting.remove(&id)
        {
            // An error says that the caller has given up.
            let _ = waiting.send(reply);
        }
        Ok(())
    }
}

/// The text, or its beginning.
pub(super) fn clipped(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
    text
}

async fn read_line(lines: &mut BufReader<OwnedReadHalf>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    lines.take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await?;
    match line.last() {
        Some(b'\n') => Ok(line),
        Some(_) if line.len() as u64 == MAX_LINE_BYTES => Err(io::Error::other("a line is too long")),
        _ => Err(io::Error::other("QEMU has closed it")),
    }
}

/// Writes a line; the descriptor travels with its first byte, see `unix(7)`.
async fn send(
    writer: &OwnedWriteHalf,
    line: &[u8],
    mut descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let stream: &UnixStream = writer.as_ref();
    let mut rest = line;
    while !rest.is_empty() {
        stream.writable().await?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&descriptors));
            }
            let flags = SendFlags::NOSIGNAL;
            Ok(rustix::net::sendmsg(stream.as_fd(), &[IoSlice::new(rest)], &mut control, flags)?)
        });
        match sent {
            Ok(count) => {
                rest = &rest[count..];
                descriptor = None;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
