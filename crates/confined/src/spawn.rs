//! Starts a process that is to be confined in a new PID namespace.
//!
//! `std::process` can neither make a PID namespace nor hand over chosen descriptors under their
//! own numbers without leaking them into children that other threads start at the same time;
//! hence `clone3(2)` here.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::libc;

/// What to start.
#[derive(Debug)]
pub struct SpawnRequest<'a> {
    /// Program to run: this program itself, started in another role.
    pub program: &'a CStr,
    /// Its arguments, with `argv[0]`.
    pub arguments: &'a [CString],
    /// Descriptors that it inherits under their present numbers; all others are closed.
    pub inherit: &'a [RawFd],
    /// Becomes its standard input.
    pub stdin: BorrowedFd<'a>,
    /// Becomes its standard output.
    pub stdout: BorrowedFd<'a>,
    /// Becomes its standard error.
    pub stderr: BorrowedFd<'a>,
}

/// `CLONE_CLEAR_SIGHAND` of `<linux/sched.h>`, which libc gives a type it does not fit into.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// Starts the process; returns its id and pidfd.
pub fn spawn(request: &SpawnRequest<'_>) -> io::Result<(u32, OwnedFd)> {
    let mut argument_pointers: Vec<*const libc::c_char> =
        request.arguments.iter().map(|argument| argument.as_ptr()).collect();
    argument_pointers.push(ptr::null());
    // The process gets nothing of the server's environment.
    let environment: [*const libc::c_char; 1] = [ptr::null()];

    let mut pidfd: RawFd = -1;
    // SAFETY: `clone_args` is plain data, for which all zeroes is a valid value.
    let mut clone_args: libc::clone_args = unsafe { std::mem::zeroed() };
    clone_args.flags = (libc::CLONE_PIDFD | libc::CLONE_NEWPID) as u64 | CLONE_CLEAR_SIGHAND;
    clone_args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    clone_args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child runs on a copy of this stack. Other threads do not exist
    // in it and may have held locks, so it only makes the async-signal-safe calls of `run_child`,
    // on memory prepared above.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut clone_args), size_of::<libc::clone_args>())
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: this is the child; the pointers are valid and end with null.
        0 => unsafe { run_child(request, argument_pointers.as_ptr(), environment.as_ptr()) },
        // SAFETY: the kernel has stored a new descriptor, owned by nobody else.
        pid => Ok((pid as u32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// What the child does until it is the other program; system calls only.
///
/// # Safety
/// To be called in the child of `clone3`; both pointers are null-terminated arrays of C strings.
unsafe fn run_child(
    request: &SpawnRequest<'_>,
    arguments: *const *const libc::c_char,
    environment: *const *const libc::c_char,
) -> ! {
    let [stdin, stdout, stderr] = [request.stdin, request.stdout, request.stderr].map(|fd| fd.as_raw_fd());
    // SAFETY: calls that are async-signal-safe, on descriptors that the caller keeps open.
    unsafe {
        for (from, to) in [(stdin, 0), (stdout, 1), (stderr, 2)] {
            if libc::dup2(from, to) < 0 {
                libc::_exit(126);
            }
        }
        // Descriptors that the server itself was started with are nobody's business in
        // there. Kernels before 5.11 do not know the flag; what this program opens is
        // close-on-exec in any case.
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        for &descriptor in request.inherit {
            if libc::fcntl(descriptor, libc::F_SETFD, 0) < 0 {
                libc::_exit(126);
            }
        }
        libc::execve(request.program.as_ptr(), arguments, environment);
        libc::_exit(127)
    }
}
