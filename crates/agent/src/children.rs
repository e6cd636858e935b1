//! The agent's child processes: starting a stage in namespaces of its own, and reaping.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::pipe2;
use serde::Serialize;

use crate::bell::Bell;
use crate::error::Error;

/// Descriptor on which a stage finds its specification (JSON).
pub(crate) const SPEC_FD: RawFd = 3;
/// Descriptor on which a stage writes what went wrong, or what came out.
pub(crate) const STATUS_FD: RawFd = 4;

/// Stack of a clone until it executes its program.
const CLONE_STACK_BYTES: usize = 32 << 10;

/// What the stage is to become.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// The app's container.
    Container,
    /// A Dockerfile build.
    Build,
    /// A shell in the app's container.
    Shell,
}

impl Kind {
    fn c_name(self) -> &'static CStr {
        match self {
            Self::Container => c"hearth-container",
            Self::Build => c"hearth-build",
            Self::Shell => c"hearth-shell",
        }
    }

    /// Namespaces that the stage begins in; a shell enters those of the app by itself.
    fn new_namespaces(self) -> libc::c_int {
        match self {
            Self::Container | Self::Build => {
                libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC
            }
            Self::Shell => 0,
        }
    }

    /// The `argv[0]` of the stage.
    pub(crate) fn name(self) -> &'static str {
        self.c_name().to_str().expect("the names are ASCII")
    }
}

/// A started stage: the agent's ends of its pipes.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: i32,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// Ends (EOF) when the stage has become the app, or has ended.
    pub(crate) status: OwnedFd,
}

/// Children that somebody asks for, with their exit codes once they have ended.
static CHILDREN: Mutex<Vec<(i32, Option<i32>)>> = Mutex::new(Vec::new());
static STARTED: Condvar = Condvar::new();
/// Rings when a child has ended.
pub(crate) static ENDED: Bell = Bell::new();

fn children() -> MutexGuard<'static, Vec<(i32, Option<i32>)>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Exit code of a child that has ended; 128 + signal number when a signal ended it.
pub(crate) fn exit_code(pid: i32) -> Option<i32> {
    children().iter().find(|child| child.0 == pid).and_then(|child| child.1)
}

/// Kills the child, and with it everything in its PID namespace.
pub(crate) fn kill(pid: i32) {
    if exit_code(pid).is_none() {
        // SAFETY: no memory is involved. That it has ended in this moment is no problem: the
        // reaper keeps no pid.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// Forgets a child that has ended and that nobody will ask for any more.
pub(crate) fn forget(pid: i32) {
    children().retain(|child| child.0 != pid || child.1.is_none());
}

/// Reaps children, orphans included. For the main thread.
pub(crate) fn reap_forever() -> ! {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the kernel to write to.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        let mut table = children();
        if pid > 0 {
            let code = if libc::WIFSIGNALED(status) {
                128 + libc::WTERMSIG(status)
            } else {
                libc::WEXITSTATUS(status)
            };
            if let Some(child) = table.iter_mut().find(|child| child.0 == pid && child.1.is_none()) {
                child.1 = Some(code);
            }
            drop(table);
            ENDED.ring();
        } else {
            // No child is left: a new one is entered in the table under the same lock
            // that is released here.
            while table.iter().all(|child| child.1.is_some()) {
                table = STARTED.wait(table).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// Starts a stage in new PID, mount, UTS and IPC namespaces and in the network namespace
/// of the calling thread.
pub(crate) fn spawn(kind: Kind, spec: &impl Serialize) -> Result<Child, Error> {
    start(kind, spec).map_err(Error::Spawn)
}

fn start(kind: Kind, spec: &impl Serialize) -> io::Result<Child> {
    let null = File::open("/dev/null")?;
    let (stdout, stdout_write) = pipe2(OFlag::O_CLOEXEC)?;
    let (stderr, stderr_write) = pipe2(OFlag::O_CLOEXEC)?;
    let (pid, status) = start_on(kind, spec, [null.as_fd(), stdout_write.as_fd(), stderr_write.as_fd()])?;
    Ok(Child { pid, stdout, stderr, status })
}

/// Starts a stage with this standard input, output and error. Returns its process and the
/// agent's end of its status.
pub(crate) fn start_on(
    kind: Kind,
    spec: &impl Serialize,
    [stdin, stdout, stderr]: [BorrowedFd; 3],
) -> io::Result<(i32, OwnedFd)> {
    let mut spec_file = File::from(memfd_create(c"spec", MFdFlags::MFD_CLOEXEC)?);
    spec_file.write_all(&serde_json::to_vec(spec)?)?;
    spec_file.rewind()?;
    let (status, status_write) = pipe2(OFlag::O_CLOEXEC)?;
    // In the order of their numbers in the stage. They are moved up first, so that none is
    // overwritten before its turn.
    let sources = [
        move_up(&stdin)?,
        move_up(&stdout)?,
        move_up(&stderr)?,
        move_up(&spec_file)?,
        move_up(&status_write)?,
    ];
    let mut table = children();
    let pid = clone_and_execute(kind, sources.each_ref().map(AsRawFd::as_raw_fd))?;
    table.push((pid, None));
    STARTED.notify_all();
    Ok((pid, status))
}

/// Duplicates a descriptor to a number above those that a stage uses.
fn move_up(fd: &impl AsFd) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(10))?;
    // SAFETY: F_DUPFD_CLOEXEC has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// What the clone needs until it executes the program; all of it is made before.
struct Execution {
    argv: [*const libc::c_char; 2],
    envp: [*const libc::c_char; 1],
    sources: [RawFd; 5],
}

/// Clones the process and executes this program again in the clone, which is PID 1 of its
/// namespace if that is new.
///
/// The clone borrows the agent's memory until then, as in vfork(2): a copy would leave all
/// of the agent's pages write-protected, and the first request after each restore would pay
/// for the page faults.
fn clone_and_execute(kind: Kind, sources: [RawFd; 5]) -> io::Result<i32> {
    let argv = [kind.c_name().as_ptr(), std::ptr::null()];
    let execution = Execution { argv, envp: [std::ptr::null()], sources };
    let mut stack = vec![0_u8; CLONE_STACK_BYTES];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD | kind.new_namespaces();
    // SAFETY: CLONE_VFORK suspends this thread until the clone has executed the program or ended,
    // so that the stack and `execution` outlive its use of them. `execute` keeps to
    // async-signal-safe calls, as other threads go on.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(CLONE_STACK_BYTES);
        libc::clone(execute, top.cast(), flags, (&raw const execution).cast_mut().cast())
    };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

/// The clone's life: it puts its descriptors in place, closes all others and executes the program.
extern "C" fn execute(execution: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the pointer comes from `clone_and_execute`, which waits; all strings and
    // arrays in it end with NUL.
    unsafe {
        let execution = &*execution.cast::<Execution>();
        for (target, source) in execution.sources.into_iter().enumerate() {
            libc::dup2(source, target as RawFd);
        }
        libc::syscall(libc::SYS_close_range, STATUS_FD + 1, u32::MAX, 0);
        libc::execve(c"/proc/self/exe".as_ptr(), execution.argv.as_ptr(), execution.envp.as_ptr());
        libc::_exit(127)
    }
}
