//! What a confined process does to itself before its work.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;

use nix::sched::CloneFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use serde::{Deserialize, Serialize};

use crate::filter;
use crate::limits::Limits;
use crate::privileges::{drop_privileges, end_with_parent, step};

/// First argument of the program when it is to be a confined process.
pub(crate) const SUBCOMMAND: &str = "confined";
/// Makes the kernel end such a process before any other when memory runs out; see
/// `proc_pid_oom_score_adj(5)`.
const OOM_SCORE_ADJUSTMENT: &str = "1000";
/// Any directory that always exists: what is mounted on it is seen by this process alone.
const ROOT: &str = "/proc";

/// Something that the program can do confined.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Name, by which [`crate::Job`] asks for it.
    pub name: &'static str,
    /// Does it; returns the answer. A panic is an answer as well: [`crate::Error::Failed`].
    pub run: fn(Task) -> Vec<u8>,
}

/// What a work is given.
#[derive(Debug)]
pub struct Task {
    /// The question, as it was asked.
    pub question: Vec<u8>,
    /// The files, in the order in which they were handed over.
    pub files: Vec<File>,
}

/// What the child is told, as JSON in its second argument.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) work: String,
    pub(crate) uid: u32,
    pub(crate) files: Vec<RawFd>,
    /// Bytes of the question: what is shorter was cut off by the end of the server.
    pub(crate) question_bytes: usize,
    pub(crate) limits: Limits,
}

/// Becomes a confined process if the command line says so, and does not return then. To be called
/// first in `main`, before there is a second thread.
pub fn run_if_requested(works: &[Work]) {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(SUBCOMMAND)) {
        return;
    }
    let spec = arguments.next().unwrap_or_default();
    let status = match run(spec.as_bytes(), works) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            125
        }
    };
    std::process::exit(status);
}

fn run(spec: &[u8], works: &[Work]) -> io::Result<()> {
    let spec: Spec = serde_json::from_slice(spec)?;
    let work = works.iter().find(|work| work.name == spec.work);
    let work = work.ok_or_else(|| io::Error::other(format!("there is no work {:?}", spec.work)))?;
    step("detach", detach())?;
    // The server asks when the process is in its cgroup.
    let mut question = Vec::new();
    step(
        "hear the question",
        io::stdin().lock().take(spec.question_bytes as u64).read_to_end(&mut question),
    )?;
    if question.len() != spec.question_bytes {
        return Err(io::Error::other("the question was cut off"));
    }
    step("limit itself", spec.limits.enforce(1))?;
    step("leave the host's namespaces", leave_namespaces())?;
    step("leave the host's files", leave_files())?;
    step("give up privileges", drop_privileges(spec.uid))?;
    step("end with the server", end_with_parent())?;
    step(
        "make itself invisible",
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .map_err(Into::into),
    )?;
    // SAFETY: the server has handed these descriptors over, and nothing else in this
    // process knows of them.
    let files = spec.files.iter().map(|fd| unsafe { File::from(OwnedFd::from_raw_fd(*fd)) }).collect();
    step("give up system calls", filter::apply_reader())?;
    let answer = (work.run)(Task { question, files });
    io::stdout().lock().write_all(&answer)?;
    io::stdout().lock().flush()
}

/// Leaves the server's session and priority.
fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJUSTMENT)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    end_with_parent()
}

/// The PID namespace exists already: the server makes it when it starts this process.
fn leave_namespaces() -> io::Result<()> {
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    Ok(nix::sched::unshare(flags)?)
}

/// Replaces the root directory by an empty one that cannot be written to.
fn leave_files() -> io::Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", ROOT, "tmpfs", flags, Some(c"size=4k,mode=555"))?;
    rustix::mount::mount_remount(ROOT, MountFlags::BIND | MountFlags::RDONLY | flags, "")?;
    rustix::process::chdir(ROOT)?;
    // The new root on top of the old one, which is then taken away from under it;
    // see pivot_root(2).
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}
