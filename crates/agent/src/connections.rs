//! Every socket that is being served, so that a restore can drop those of the former life.

use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::socket::{Shutdown, shutdown};

static LIVE: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Keeps a socket registered; drop it before the socket is closed.
#[derive(Debug)]
pub(crate) struct Registered(RawFd);

fn live() -> MutexGuard<'static, Vec<RawFd>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a socket that is open as long as the returned guard.
pub(crate) fn register(socket: &TcpStream) -> Registered {
    live().push(socket.as_raw_fd());
    Registered(socket.as_raw_fd())
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut live = live();
        if let Some(index) = live.iter().position(|fd| *fd == self.0) {
            live.swap_remove(index);
        }
    }
}

/// Ends every registered connection but `kept`: its thread wakes up and finds both
/// directions closed.
pub(crate) fn drop_all_but(kept: &TcpStream) {
    for fd in live().iter().filter(|fd| **fd != kept.as_raw_fd()) {
        // The peer may have closed it already.
        let _ = shutdown(*fd, Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn a_restore_ends_other_connections_only() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut old = TcpStream::connect(address).unwrap();
        let kept = TcpStream::connect(address).unwrap();
        let _guards = (register(&old), register(&kept));
        drop_all_but(&kept);
        assert_eq!(old.read(&mut [0; 1]).unwrap(), 0);
        kept.set_nonblocking(true).unwrap();
        assert_eq!((&kept).read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}
