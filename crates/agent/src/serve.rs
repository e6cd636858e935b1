//! The control channel: one listener, one thread per connection in service.
//!
//! Workers wait in `accept` ahead of time, because the first request after a restore should not
//! have to make a thread. They live in the app's network namespace: the listener they inherited
//! keeps accepting on the control network, and every socket that they make is the app's.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hearth_guest_protocol::codec::write_frame;
use hearth_guest_protocol::{
    AGENT_PORT, CONTROL_GUEST, CONTROL_HOST, Hello, PROTOCOL_VERSION, Reply, Request, chain,
};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt};

use crate::error::Error;
use crate::incoming::Incoming;
use crate::{app, build, connections, forward, hooks, inspect, power, restore, shell};

/// Workers that wait from the start.
const FIRST_WORKERS: usize = 4;
/// Workers that may wait; one more ends.
const MOST_IDLE_WORKERS: usize = 16;
const STACK_BYTES: usize = 128 << 10;
/// One buffer per direction of a forwarded connection.
const BUFFER_BYTES: usize = 64 << 10;

/// [`Reply::Done`] as a frame.
const DONE_FRAME: &[u8] = b"\0\0\0\x10{\"reply\":\"done\"}";

/// Workers that wait in `accept`.
static IDLE: AtomicUsize = AtomicUsize::new(0);

/// Starts to serve.
pub(crate) fn start(app_network: &OwnedFd) -> Result<(), Error> {
    let listener = TcpListener::bind((Ipv4Addr::from(CONTROL_GUEST), AGENT_PORT)).map_err(Error::Listen)?;
    // Accepted connections inherit it.
    setsockopt(&listener, sockopt::TcpNoDelay, &true).map_err(|errno| Error::Listen(errno.into()))?;
    let listener = Arc::new(listener);
    for _ in 0..FIRST_WORKERS {
        let app_network = app_network.try_clone().map_err(Error::Listen)?;
        let listener = Arc::clone(&listener);
        spawn_worker(move || {
            if let Err(errno) = setns(app_network, CloneFlags::CLONE_NEWNET) {
                eprintln!("hearth-agent: cannot enter the app's network namespace: {errno}");
                return;
            }
            work(&listener);
        })
        .map_err(Error::Spawn)?;
    }
    Ok(())
}

fn spawn_worker(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    IDLE.fetch_add(1, Ordering::Relaxed);
    thread::Builder::new().stack_size(STACK_BYTES).spawn(work).map(drop).inspect_err(|_| {
        IDLE.fetch_sub(1, Ordering::Relaxed);
    })
}

/// Accepts and serves until there are more idle workers than needed.
fn work(listener: &Arc<TcpListener>) {
    let mut buffers = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        let accepted = listener.accept();
        if IDLE.fetch_sub(1, Ordering::Relaxed) == 1 {
            let listener = Arc::clone(listener);
            // A new thread inherits the namespace of this one.
            if let Err(error) = spawn_worker(move || work(&listener)) {
                eprintln!("hearth-agent: cannot start a worker: {error}");
            }
        }
        match accepted {
            Ok((peer, from)) if from.ip() == IpAddr::from(CONTROL_HOST) => {
                // The panic's message is on the console; this guest's other connections go on.
                let _ = catch_unwind(AssertUnwindSafe(|| serve(peer, &mut buffers)));
            }
            // The host's routes should make this impossible; the app must not be able
            // to pose as the host.
            Ok((_, from)) => eprintln!("hearth-agent: refused a connection from {from}"),
            Err(error) => eprintln!("hearth-agent: cannot accept: {error}"),
        }
        if IDLE.fetch_add(1, Ordering::Relaxed) >= MOST_IDLE_WORKERS {
            IDLE.fetch_sub(1, Ordering::Relaxed);
            return;
        }
    }
}

fn serve(mut peer: TcpStream, buffers: &mut (Vec<u8>, Vec<u8>)) {
    let _registered = connections::register(&peer);
    // A connection that broke concerns nobody but its peer, who has gone.
    let _ = serve_requests(&mut peer, buffers);
}

/// Answers requests until the host closes the connection, or one of them has used it up.
fn serve_requests(peer: &mut TcpStream, (to_app, to_host): &mut (Vec<u8>, Vec<u8>)) -> io::Result<()> {
    let mut incoming = Incoming::new(to_app);
    while let Some(request) = incoming.next(peer)? {
        match request {
            Request::Forward { port } => return forward::serve(peer, port, incoming, to_host),
            Request::Shell { shell } => return shell::serve(peer, &shell, incoming, to_host),
            Request::Restored { unix_nanos, entropy } => restored(peer, unix_nanos, &entropy)?,
            Request::Output { from } => return app::OUTPUT.stream(peer, from, None).map(drop),
            request => match answer(peer, request)? {
                Some(reply) => write_frame(peer, &reply)?,
                None => return Ok(()),
            },
        }
    }
    Ok(())
}

/// Answers with a frame made beforehand, as there is nothing to lose after a restore.
fn restored(peer: &mut TcpStream, unix_nanos: u64, entropy: &str) -> io::Result<()> {
    match restore::restored(peer, unix_nanos, entropy) {
        Ok(()) => peer.write_all(DONE_FRAME),
        Err(error) => write_frame(peer, &done(Err(error))),
    }
}

/// Carries out a request that has one reply at its end; there is none when the host
/// has gone meanwhile.
fn answer(peer: &mut TcpStream, request: Request) -> io::Result<Option<Reply>> {
    let reply = match request {
        Request::Hello => Reply::Hello(hello()?),
        Request::StartApp { app } => done(app::start(&app)),
        Request::WaitListening { timeout_ms } => return app::wait_listening(peer, timeout_ms),
        Request::WaitExit => return app::wait_exit(peer),
        Request::Hook { port, path, body, timeout_ms } => {
            Reply::Hook(hooks::call(port, &path, &body, timeout_ms))
        }
        Request::Build { build } => return build::run(peer, &build),
        Request::Inspect { timeout_ms } => Reply::Inspection(inspect::inspect(timeout_ms)),
        Request::PrepareSnapshot => {
            power::prepare_snapshot();
            Reply::Done
        }
        Request::PowerOff => {
            power::shut_down();
            write_frame(peer, &Reply::Done)?;
            power::halt();
        }
        Request::Forward { .. }
        | Request::Shell { .. }
        | Request::Restored { .. }
        | Request::Output { .. } => {
            unreachable!("the caller has taken these out")
        }
    };
    Ok(Some(reply))
}

fn done(result: Result<(), Error>) -> Reply {
    match result {
        Ok(()) => Reply::Done,
        Err(error) => Reply::Error { message: chain(&error) },
    }
}

fn hello() -> io::Result<Hello> {
    let kernel = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
    Ok(Hello { protocol: PROTOCOL_VERSION, kernel, app: app::state() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prepared_frame_is_the_one_that_the_codec_makes() {
        assert_eq!(hearth_guest_protocol::codec::encode(&Reply::Done).unwrap(), DONE_FRAME);
    }
}
