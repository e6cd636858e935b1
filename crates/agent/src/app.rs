//! The one app of this guest: its start, its state, its output.

use std::fs::File;
use std::io::Read;
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hearth_guest_protocol::{AppSpec, AppState, Reply};

use crate::bell::Wake;
use crate::children::{self, Child, Kind};
use crate::error::Error;
use crate::listening;
use crate::output::Output;

/// How often the tables of listening sockets are read.
const LISTENING_INTERVAL: Duration = Duration::from_millis(100);

/// The app, once it has been started.
static APP: Mutex<Option<App>> = Mutex::new(None);
pub(crate) static OUTPUT: Output = Output::new();

struct App {
    /// Process number of its first process.
    pid: i32,
    spec: AppSpec,
}

fn app() -> MutexGuard<'static, Option<App>> {
    APP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the app's container and returns when its program runs.
pub(crate) fn start(spec: &AppSpec) -> Result<(), Error> {
    let mut app = app();
    if app.is_some() {
        return Err(Error::AlreadyStarted);
    }
    let Child { pid, stdout, stderr, status } = children::spawn(Kind::Container, spec)?;
    let mut message = String::new();
    File::from(status)
        .read_to_string(&mut message)
        .map_err(|source| Error::Read { path: "the container's status".into(), source })?;
    if !message.is_empty() {
        return Err(Error::Stage(message));
    }
    *app = Some(App { pid, spec: spec.clone() });
    thread::Builder::new().spawn(move || OUTPUT.collect(stdout, stderr)).map_err(Error::Spawn)?;
    Ok(())
}

pub(crate) fn state() -> AppState {
    match *app() {
        None => AppState::NotStarted,
        Some(App { pid, .. }) => children::exit_code(pid).map_or(AppState::Running, AppState::Exited),
    }
}

/// Process number of the app's first process and what it was started from, while it runs.
pub(crate) fn running() -> Option<(i32, AppSpec)> {
    let app = app();
    let App { pid, spec } = app.as_ref()?;
    children::exit_code(*pid).is_none().then(|| (*pid, spec.clone()))
}

fn exited() -> Option<Reply> {
    match state() {
        AppState::Exited(code) => Some(Reply::Exited { code }),
        AppState::NotStarted | AppState::Running => None,
    }
}

/// Waits for a listening TCP socket, for the app's end, or for the time to run out.
pub(crate) fn wait_listening(peer: &TcpStream, timeout_ms: u64) -> std::io::Result<Option<Reply>> {
    let deadline = Instant::now() + Duration::from_millis(timeout_ms);
    let ended = children::ENDED.listen()?;
    loop {
        let ports = listening::ports();
        if let Some(&port) = ports.first() {
            return Ok(Some(Reply::Listening { port, ports }));
        }
        if let Some(reply) = exited() {
            return Ok(Some(reply));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Some(Reply::TimedOut));
        }
        if ended.wait_for(peer, left.min(LISTENING_INTERVAL))? == Wake::PeerGone {
            return Ok(None);
        }
    }
}

/// Waits for the end of the app's first process.
pub(crate) fn wait_exit(peer: &TcpStream) -> std::io::Result<Option<Reply>> {
    let ended = children::ENDED.listen()?;
    loop {
        if let Some(reply) = exited() {
            return Ok(Some(reply));
        }
        if ended.wait(peer)? == Wake::PeerGone {
            return Ok(None);
        }
    }
}

/// Ends the app, so that its file system is unmounted.
pub(crate) fn kill() {
    let Some(pid) = app().as_ref().map(|app| app.pid) else { return };
    children::kill(pid);
    let deadline = Instant::now() + Duration::from_secs(5);
    while children::exit_code(pid).is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}
