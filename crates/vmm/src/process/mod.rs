//! VMM processes: started inside a jail, watched through a pidfd, put under resource limits.
//!
//! The only module that starts and reaps VMM processes. They are children in a PID namespace of
//! their own and in their own session, and nothing ties their life to the server's: when the
//! server goes, they run on.
#![allow(unsafe_code)]

pub(crate) mod guest_memory;
pub mod jail;
pub(crate) mod record;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::process::{Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) use hearth_confined::cgroup;
pub(crate) use hearth_confined::spawn::{SpawnRequest, spawn};

/// How a process ended: its exit code, or 128 + the signal that ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExitStatus(pub(crate) i32);

impl ExitStatus {
    /// Of a process that an earlier server has started: the kernel tells only parents.
    pub(crate) const UNKNOWN: Self = Self(-1);
}

/// Name of the cgroups of a VM of this name: with a digest of its run directory, as a copy of a
/// data directory may be in use on the same host.
pub(crate) fn group_name(name: &str, run_dir: &Path) -> String {
    let digest = blake3::hash(run_dir.as_os_str().as_encoded_bytes()).to_hex();
    format!("{name}-{}", &digest[..8])
}

/// Removes the empty cgroups of a VM whose run directory has its name.
pub(crate) fn remove_groups(run_dir: &Path) {
    let name = run_dir.file_name().unwrap_or_default().to_string_lossy();
    cgroup::remove_named(&group_name(&name, run_dir));
    remove_earlier_groups(&name);
}

/// Removes those that earlier versions have made, by the VM's name alone, when they are empty.
pub(crate) fn remove_earlier_groups(name: &str) {
    cgroup::remove_named(name);
}

/// A VMM process.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Watches the process; must be called inside a tokio runtime.
    pub(crate) fn new(pid: u32, pidfd: OwnedFd) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` keeps the same descriptor open as long as it lives.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        Ok(Self { pid, pidfd })
    }

    /// Process id in the server's PID namespace.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends SIGKILL; a process that is gone already is no error.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the process is gone and reaps it if it is a child. To be called once, by
    /// the process's owner.
    pub(crate) async fn reap(&self) -> io::Result<ExitStatus> {
        // A pidfd becomes readable when its process ends, and stays so.
        let _ready = self.pidfd.readable().await?;
        let status = match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::CHILD) => return Ok(ExitStatus::UNKNOWN),
            status => status?,
        };
        Ok(ExitStatus(status.map_or(ExitStatus::UNKNOWN.0, |status| {
            status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0))
        })))
    }
}
