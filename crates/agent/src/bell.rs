//! Wakes connections that wait for something to happen in the guest, or for their peer to go away.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// The peer will send no more (poll(2)'s POLLRDHUP, which nix does not name).
const HANG_UP: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);

/// Rings for everybody who listens. An eventfd per listener, because a condition variable cannot be
/// waited for together with a socket.
#[derive(Debug)]
pub(crate) struct Bell {
    listeners: Mutex<Vec<Weak<EventFd>>>,
}

/// One listener; it stops listening when it is dropped.
#[derive(Debug)]
pub(crate) struct Ear(Arc<EventFd>);

/// Why [`Ear::wait`] returned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The bell rang.
    Rung,
    /// The connection's peer closed it, or a restore dropped it.
    PeerGone,
    /// The time ran out.
    TimedOut,
}

impl Bell {
    pub(crate) const fn new() -> Self {
        Self { listeners: Mutex::new(Vec::new()) }
    }

    /// Starts to listen. Look at the state only afterwards, else a ring in between is missed.
    pub(crate) fn listen(&self) -> io::Result<Ear> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&event));
        Ok(Ear(event))
    }

    /// Wakes every listener.
    pub(crate) fn ring(&self) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| {
            let Some(event) = listener.upgrade() else { return false };
            // A full counter, the only error there is, means that the listener has
            // been woken already.
            let _ = event.write(1);
            true
        });
    }
}

impl Ear {
    /// Blocks until the bell has rung since the last call, or `peer` has gone.
    pub(crate) fn wait(&self, peer: &TcpStream) -> io::Result<Wake> {
        self.poll(peer, PollTimeout::NONE)
    }

    /// As [`Ear::wait`], for a limited time.
    pub(crate) fn wait_for(&self, peer: &TcpStream, timeout: Duration) -> io::Result<Wake> {
        self.poll(peer, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX))
    }

    /// Readable when the bell has rung since the last [`Ear::hear`]; for a caller that polls.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Takes note of it.
    pub(crate) fn hear(&self) {
        // It has not rung.
        let _ = self.0.read();
    }

    fn poll(&self, peer: &TcpStream, timeout: PollTimeout) -> io::Result<Wake> {
        let mut fds = [PollFd::new(peer.as_fd(), HANG_UP), PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout)? == 0 {
            return Ok(Wake::TimedOut);
        }
        if fds[0].any().unwrap_or(true) {
            return Ok(Wake::PeerGone);
        }
        self.0.read()?;
        Ok(Wake::Rung)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_wakes_for_the_bell_for_its_peer_and_for_the_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let bell = Bell::new();
        let ear = bell.listen().unwrap();
        assert_eq!(ear.wait_for(&peer, Duration::from_millis(1)).unwrap(), Wake::TimedOut);
        bell.ring();
        bell.ring();
        assert_eq!(ear.wait(&peer).unwrap(), Wake::Rung);
        drop(client);
        assert_eq!(ear.wait(&peer).unwrap(), Wake::PeerGone);
    }
}
