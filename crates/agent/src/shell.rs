//! Carries a shell's bytes between the host and its terminal.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use hearth_guest_protocol::codec::write_frame;
use hearth_guest_protocol::{FromShell, Reply, SHELL_HEADER_BYTES, ShellHeader, ShellSpec, chain};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

use crate::bell::Ear;
use crate::children;
use crate::incoming::Incoming;
use crate::session::Session;
use crate::terminal::Terminal;

/// poll(2)'s POLLRDHUP, which nix does not name: the peer will send no more.
const HANG_UP: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);
/// How long what was printed last may take to come out of the terminal, when a
/// background job still holds it.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// How long a background job may go on printing when the shell has ended.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);
/// Output in one frame.
const OUTPUT_BYTES: usize = 32 << 10;

/// Starts a shell and serves it until it ends or the host goes.
pub(crate) fn serve(
    host: &mut TcpStream,
    spec: &ShellSpec,
    incoming: Incoming,
    to_host: &mut [u8],
) -> io::Result<()> {
    // Before the start, so that no end is missed.
    let ended = children::ENDED.listen()?;
    let (session, terminal) = match Session::start(spec) {
        Ok(started) => started,
        Err(error) => return write_frame(host, &Reply::Error { message: chain(&error) }),
    };
    let told = write_frame(host, &Reply::Done);
    let mut relay = Relay {
        host,
        terminal,
        incoming,
        input_left: 0,
        input_blocked: false,
        to_host,
        unsent: 0..0,
        printed_all: false,
    };
    let result = told.and_then(|()| relay.run(&session, &ended));
    // Closes the terminal: the kernel hangs up on the shell, and then the session ends.
    drop(relay);
    drop(session);
    result
}

/// What poll(2) has found. nix gives nothing when a flag is among it that it does not name.
fn happened(fd: &PollFd) -> PollFlags {
    fd.revents().unwrap_or(HANG_UP)
}

struct Relay<'a> {
    host: &'a TcpStream,
    terminal: Terminal,
    incoming: Incoming<'a>,
    /// Bytes of an input frame that are still to be typed.
    input_left: usize,
    /// The terminal takes no more for now.
    input_blocked: bool,
    to_host: &'a mut [u8],
    /// The part of `to_host` that is to be sent.
    unsent: std::ops::Range<usize>,
    /// Nothing more can be printed.
    printed_all: bool,
}

impl Relay<'_> {
    fn run(&mut self, session: &Session, ended: &Ear) -> io::Result<()> {
        loop {
            self.type_input()?;
            if let Some(code) = session.exit_code() {
                return self.finish(code);
            }
            if !self.step(ended)? {
                return Ok(());
            }
        }
    }

    /// Waits until something can be moved, and moves it; `false` when the host has gone.
    fn step(&mut self, ended: &Ear) -> io::Result<bool> {
        let [host_ready, printed, typable] = self.wait(ended)?;
        if host_ready.intersects(HANG_UP | PollFlags::POLLHUP | PollFlags::POLLERR) {
            return Ok(false);
        }
        ended.hear();
        if host_ready.contains(PollFlags::POLLIN) && !self.receive()? {
            return Ok(false);
        }
        if host_ready.contains(PollFlags::POLLOUT) {
            self.send()?;
        }
        if !typable.is_empty() {
            self.input_blocked = false;
        }
        if !printed.is_empty() {
            self.read_output()?;
        }
        Ok(true)
    }

    /// What happened at the host's connection, the terminal's output and its input.
    fn wait(&self, ended: &Ear) -> io::Result<[PollFlags; 3]> {
        let mut of_host = HANG_UP;
        of_host.set(PollFlags::POLLIN, !self.input_blocked);
        of_host.set(PollFlags::POLLOUT, !self.unsent.is_empty());
        let mut fds =
            vec![PollFd::new(self.host.as_fd(), of_host), PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        // A descriptor that nothing is wanted of is left out: poll would report its
        // hang-up again and again.
        let reading = !self.printed_all && self.unsent.is_empty();
        if reading {
            fds.push(PollFd::new(self.terminal.output(), PollFlags::POLLIN));
        }
        if let Some(input) = self.terminal.input().filter(|_| self.input_blocked) {
            fds.push(PollFd::new(input, PollFlags::POLLOUT));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut events = fds.iter().map(happened);
        let host = events.next().unwrap_or(PollFlags::empty());
        let mut of_terminal = events.skip(1);
        let mut next = |wanted| if wanted { of_terminal.next() } else { None }.unwrap_or(PollFlags::empty());
        Ok([host, next(reading), next(self.input_blocked)])
    }

    /// Takes in what the host has sent; `false` when it has gone.
    fn receive(&mut self) -> io::Result<bool> {
        let Incoming { buffer, pending } = &mut self.incoming;
        buffer.copy_within(pending.clone(), 0);
        *pending = 0..pending.len();
        match recv(self.host.as_raw_fd(), &mut buffer[pending.end..], MsgFlags::MSG_DONTWAIT) {
            Ok(0) => Ok(false),
            Ok(length) => {
                pending.end += length;
                Ok(true)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Carries out the frames that have arrived, as far as the terminal takes their bytes.
    fn type_input(&mut self) -> io::Result<()> {
        while !self.input_blocked {
            let bytes = &self.incoming.buffer[self.incoming.pending.clone()];
            if self.input_left > 0 {
                let length = self.input_left.min(bytes.len());
                if length == 0 {
                    return Ok(());
                }
                match self.terminal.write(&bytes[..length]) {
                    Ok(written) => {
                        self.incoming.pending.start += written;
                        self.input_left -= written;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.input_blocked = true,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            let Some(header) = bytes.first_chunk::<SHELL_HEADER_BYTES>() else { return Ok(()) };
            let mut taken = SHELL_HEADER_BYTES;
            match ShellHeader::parse(*header)? {
                ShellHeader::Input(length) => self.input_left = length,
                ShellHeader::EndOfInput => self.terminal.end_input(),
                ShellHeader::Resize => {
                    let Some(&[a, b, c, d]) = bytes[taken..].first_chunk::<4>() else { return Ok(()) };
                    self.terminal.resize(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))?;
                    taken += 4;
                }
            }
            self.incoming.pending.start += taken;
        }
        Ok(())
    }

    /// Makes a frame of what has been printed and begins to send it.
    fn read_output(&mut self) -> io::Result<()> {
        let end = SHELL_HEADER_BYTES + OUTPUT_BYTES;
        let mut filled = SHELL_HEADER_BYTES;
        // A terminal gives a few KiB at a time.
        while filled < end {
            match self.terminal.read(&mut self.to_host[filled..end]) {
                Ok(0) => {
                    self.printed_all = true;
                    break;
                }
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let length = filled - SHELL_HEADER_BYTES;
        if length > 0 {
            self.to_host[..SHELL_HEADER_BYTES].copy_from_slice(&FromShell::output_header(length));
            self.unsent = 0..filled;
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let bytes = &self.to_host[self.unsent.clone()];
            match send(self.host.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                Ok(length) => self.unsent.start += length,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends what the shell printed last, and its exit code. The host may take its time to read.
    fn finish(&mut self, code: i32) -> io::Result<()> {
        let deadline = Instant::now() + LAST_WORDS_MAX;
        loop {
            while !self.unsent.is_empty() {
                let mut host = [PollFd::new(self.host.as_fd(), PollFlags::POLLOUT | HANG_UP)];
                poll(&mut host, PollTimeout::NONE)?;
                if happened(&host[0]).intersects(HANG_UP | PollFlags::POLLHUP) {
                    return Ok(());
                }
                self.send()?;
            }
            let mut output = [PollFd::new(self.terminal.output(), PollFlags::POLLIN)];
            let patience = PollTimeout::try_from(LAST_WORDS).unwrap_or(PollTimeout::ZERO);
            if self.printed_all || Instant::now() >= deadline || poll(&mut output, patience)? == 0 {
                break;
            }
            self.read_output()?;
        }
        io::Write::write_all(&mut &*self.host, &FromShell::exited_frame(code))
    }
}
