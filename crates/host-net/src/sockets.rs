//! Opens TCP sockets inside network namespaces.
//!
//! Only the call of `socket(2)` has to happen inside: a socket belongs to its namespace for good,
//! and connects from anywhere. One thread visits the namespaces; it always goes home, as a thread
//! inside would keep a namespace alive.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::namespace;

/// Handle of the thread, which ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct SocketOpener(mpsc::Sender<Visit>);

#[derive(Debug)]
struct Visit {
    namespace: Arc<OwnedFd>,
    socket_tx: oneshot::Sender<io::Result<OwnedFd>>,
}

impl SocketOpener {
    /// Starts the thread; its home is the caller's namespace.
    pub(crate) fn start() -> Result<Self> {
        let home = namespace::current()?;
        let (visit_tx, visit_rx) = mpsc::channel::<Visit>();
        std::thread::Builder::new()
            .name("host-net-socket".to_owned())
            .spawn(move || {
                for visit in visit_rx {
                    let socket = open_inside(&visit.namespace);
                    setns(&home, CloneFlags::CLONE_NEWNET)
                        .expect("invariant: root can enter its own namespace");
                    // Nobody waits for the answer only if the caller was cancelled.
                    let _ = visit.socket_tx.send(socket);
                }
            })
            .map_err(Error::Thread)?;
        Ok(Self(visit_tx))
    }

    /// Opens a non-blocking TCP socket inside `namespace`.
    pub(crate) async fn tcp_socket(&self, namespace: Arc<OwnedFd>) -> io::Result<TcpStream> {
        let (socket_tx, socket_rx) = oneshot::channel();
        self.0.send(Visit { namespace, socket_tx }).map_err(io::Error::other)?;
        Ok(socket_rx.await.map_err(io::Error::other)??.into())
    }
}

fn open_inside(namespace: &OwnedFd) -> io::Result<OwnedFd> {
    setns(namespace, CloneFlags::CLONE_NEWNET)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Inet, SockType::Stream, flags, None)?)
}
