//! What a shell reads from and writes to: a pseudo-terminal of the app's container, or pipes.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use hearth_guest_protocol::Terminal as Kind;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, openat2};
use nix::libc;
use nix::unistd::pipe2;

/// The agent's side of a terminal. Reading and writing never block.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// What is written here is typed; `None` after the end of input.
    input: Option<File>,
    output: File,
    kind: Kind,
}

/// The shell's side.
#[derive(Debug)]
pub(crate) struct Stdio {
    pub(crate) input: OwnedFd,
    pub(crate) output: OwnedFd,
}

impl Terminal {
    /// Opens a terminal for a shell in the container whose first process is `app`.
    pub(crate) fn open(kind: Kind, app: i32) -> io::Result<(Self, Stdio)> {
        match kind {
            Kind::Pty => open_pty(app),
            Kind::Pipes => open_pipes(),
        }
    }

    pub(crate) fn input(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// Types as many of the bytes as the terminal takes now. Whatever is typed to a program that no
    /// longer listens is lost, as on any terminal.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(input) = &mut self.input else { return Ok(bytes.len()) };
        match input.write(bytes) {
            Err(error) if is_closed(&error) => Ok(bytes.len()),
            result => result,
        }
    }

    /// Reads what was printed; 0 when nothing more can be.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.output.read(buffer) {
            Err(error) if is_closed(&error) => Ok(0),
            result => result,
        }
    }

    pub(crate) fn end_input(&mut self) {
        if self.kind == Kind::Pipes {
            self.input = None;
        }
    }

    /// Tells the foreground programs how large the window is (SIGWINCH).
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        if self.kind == Kind::Pipes {
            return Ok(());
        }
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel reads a `winsize` that outlives the call.
        let result = unsafe { libc::ioctl(self.output.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        Errno::result(result)?;
        Ok(())
    }
}

/// EIO is what a pseudo-terminal says that nobody has open on the other side.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EPIPE))
}

/// Makes a pseudo-terminal in the container's own `/dev/pts`, so that it has a name there.
fn open_pty(app: i32) -> io::Result<(Terminal, Stdio)> {
    let root = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(format!("/proc/{app}/root"))?;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    // The app can put links there, and they must not lead out of its root.
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags).resolve(resolve);
    let master = File::from(openat2(root, "dev/pts/ptmx", how)?);
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int that outlives the call.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) })?;
    let flags = (OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).bits();
    // SAFETY: TIOCGPTPEER takes flags and returns a descriptor that nobody else knows.
    let slave = unsafe {
        let slave = Errno::result(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags))?;
        OwnedFd::from_raw_fd(slave)
    };
    let stdio = Stdio { input: slave.try_clone()?, output: slave };
    Ok((Terminal { input: Some(master.try_clone()?), output: master, kind: Kind::Pty }, stdio))
}

fn open_pipes() -> io::Result<(Terminal, Stdio)> {
    let (shell_input, input) = pipe2(OFlag::O_CLOEXEC)?;
    let (output, shell_output) = pipe2(OFlag::O_CLOEXEC)?;
    for end in [&input, &output] {
        fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let terminal = Terminal { input: Some(input.into()), output: output.into(), kind: Kind::Pipes };
    Ok((terminal, Stdio { input: shell_input, output: shell_output }))
}
