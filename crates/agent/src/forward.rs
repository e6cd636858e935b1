//! Carries the bytes of one forwarded connection between the host and a port of the app.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

use hearth_guest_protocol::{FORWARD_CONNECTED, FORWARD_REFUSED};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send, setsockopt, sockopt};

use crate::connections;
use crate::incoming::Incoming;

/// More bytes will follow soon (send(2)'s MSG_MORE, which nix does not name).
const MORE: MsgFlags = MsgFlags::from_bits_retain(libc::MSG_MORE);

/// One direction: bytes read from one socket and not yet written to the other.
struct Flow<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    buffer: &'a mut [u8],
    pending: Range<usize>,
    ended: bool,
    /// What becomes of bytes that the target does not take any more.
    refused: Refused,
}

/// What to do with bytes that cannot be delivered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// Nobody is there: both directions end.
    Ends,
    /// They are thrown away, as the target may have said something before that is still to be
    /// delivered: an app may answer before it has read the request.
    Discarded,
}

/// Connects to the app's port and copies in both directions until both have ended,
/// beginning with what the host sent behind its request. The calling thread must be in the
/// app's network namespace.
pub(crate) fn serve(host: &TcpStream, port: u16, incoming: Incoming, to_host: &mut [u8]) -> io::Result<()> {
    let Ok(app) = connect(port) else {
        send(host.as_raw_fd(), &[FORWARD_REFUSED], MsgFlags::MSG_NOSIGNAL)?;
        return Ok(());
    };
    app.set_nodelay(true)?;
    let _registered = connections::register(&app);
    let mut up = Flow {
        from: host,
        to: &app,
        buffer: incoming.buffer,
        pending: incoming.pending,
        ended: false,
        refused: Refused::Discarded,
    };
    let mut down =
        Flow { from: &app, to: host, buffer: to_host, pending: 0..0, ended: false, refused: Refused::Ends };
    let result = copy(&mut up, &mut down);
    if result.is_err() {
        // One side was reset; a reset, and no orderly end, is what the other side has to see too.
        let reset = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&app, sockopt::Linger, &reset)?;
        setsockopt(host, sockopt::Linger, &reset)?;
    }
    result
}

fn copy(up: &mut Flow, down: &mut Flow) -> io::Result<()> {
    up.write()?;
    // This flag lets the status byte travel with the app's first bytes; if there are none, it
    // leaves after 200 ms.
    let flags = MsgFlags::MSG_NOSIGNAL | MORE;
    send(down.to.as_raw_fd(), &[FORWARD_CONNECTED], flags)?;
    while !(up.ended && down.ended) {
        step(up, down)?;
    }
    Ok(())
}

/// Connects to the port on 127.0.0.1, then on ::1.
pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .or_else(|_| TcpStream::connect(SocketAddr::from((Ipv6Addr::LOCALHOST, port))))
}

/// Waits until one of the sockets can move bytes, and moves them.
fn step(up: &mut Flow, down: &mut Flow) -> io::Result<()> {
    let mut fds = [
        PollFd::new(up.from.as_fd(), up.interest_in_source() | down.interest_in_target()),
        PollFd::new(up.to.as_fd(), down.interest_in_source() | up.interest_in_target()),
    ];
    // A socket that nothing is wanted of is left out: poll would report its hang-up
    // again and again.
    let wanted = match [fds[0].events().is_empty(), fds[1].events().is_empty()] {
        [true, _] => &mut fds[1..],
        [_, true] => &mut fds[..1],
        _ => &mut fds[..],
    };
    match poll(wanted, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let [host_ready, app_ready] = fds.map(|fd| fd.any().unwrap_or(true));
    if if up.pending.is_empty() { host_ready } else { app_ready } {
        up.advance()?;
    }
    if if down.pending.is_empty() { app_ready } else { host_ready } {
        down.advance()?;
    }
    Ok(())
}

impl Flow<'_> {
    fn interest_in_source(&self) -> PollFlags {
        if self.ended || !self.pending.is_empty() { PollFlags::empty() } else { PollFlags::POLLIN }
    }

    fn interest_in_target(&self) -> PollFlags {
        if self.pending.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT }
    }

    /// Moves what can be moved without blocking.
    fn advance(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            return self.write();
        }
        if self.ended {
            return Ok(());
        }
        match recv(self.from.as_raw_fd(), self.buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => {
                self.ended = true;
                match self.to.shutdown(Shutdown::Write) {
                    // The other side has closed its connection altogether: nothing
                    // is left to tell it.
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                    result => result,
                }
            }
            Ok(length) => {
                self.pending = 0..length;
                self.write()
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let bytes = &self.buffer[self.pending.clone()];
            match send(self.to.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                Ok(length) => self.pending.start += length,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) if self.refused == Refused::Discarded => {
                    self.pending = 0..0;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// A connected pair: the client's end and the server's.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn bytes_and_ends_pass_in_both_directions() {
        let app = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = app.local_addr().unwrap().port();
        let (mut client, host) = pair();
        let forwarder = std::thread::spawn(move || {
            let mut to_app = *b"early...";
            let incoming = Incoming { buffer: &mut to_app, pending: 0..5 };
            serve(&host, port, incoming, &mut [0; 8])
        });
        let (mut app, _) = app.accept().unwrap();
        // More than the buffers hold, echoed while it is still being sent.
        let echo = std::thread::spawn(move || io::copy(&mut app.try_clone().unwrap(), &mut app).unwrap());
        let sender = client.try_clone().unwrap();
        let data = vec![7; 300_000];
        let expected = [&[FORWARD_CONNECTED], b"early".as_slice(), &data].concat();
        let writer = std::thread::spawn(move || {
            (&sender).write_all(&data).unwrap();
            sender.shutdown(Shutdown::Write).unwrap();
        });
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(answer == expected, "{} of {} bytes came back", answer.len(), expected.len());
        writer.join().unwrap();
        echo.join().unwrap();
        forwarder.join().unwrap().unwrap();
    }

    #[test]
    fn an_answer_before_the_end_of_the_request_arrives() {
        let app = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = app.local_addr().unwrap().port();
        let (mut client, host) = pair();
        let forwarder =
            std::thread::spawn(move || serve(&host, port, Incoming::new(&mut [0; 8]), &mut [0; 8]));
        let (mut app, _) = app.accept().unwrap();
        client.write_all(b"begin").unwrap();
        app.read_exact(&mut [0; 1]).unwrap();
        app.write_all(b"enough").unwrap();
        // With unread bytes, so that the kernel resets the connection.
        drop(app);
        let sender = client.try_clone().unwrap();
        let writer = std::thread::spawn(move || while (&sender).write_all(&[0; 1000]).is_ok() {});
        let mut answer = [0; 7];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, &[&[FORWARD_CONNECTED], b"enough".as_slice()].concat()[..]);
        // It fails when the forwarder has reset the connection already.
        let _ = client.shutdown(Shutdown::Both);
        writer.join().unwrap();
        // How it ended depends on which of the two resets was seen first.
        let _ = forwarder.join().unwrap();
    }

    #[test]
    fn a_port_that_nobody_listens_on_is_refused() {
        let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (mut client, host) = pair();
        serve(&host, unused, Incoming::new(&mut [0; 8]), &mut [0; 8]).unwrap();
        drop(host);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, [FORWARD_REFUSED]);
    }
}
