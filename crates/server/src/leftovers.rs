//! VMM processes that a killed server left behind. Only processes that are provably ours are ended: their run
//! directory names them, and they are still running from it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long the kernel may take to clear away a killed VMM, whose memory may be large.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// Ends what is named in `run_root`, waits until it is gone, and empties the directory.
pub(crate) fn remove(run_root: &Path) {
    let Ok(entries) = std::fs::read_dir(run_root) else { return };
    let entries: Vec<_> = entries.flatten().collect();
    // All are told to end before the first is waited for.
    let ending: Vec<_> = entries.iter().filter_map(|entry| end(&entry.path())).collect();
    for process in &ending {
        if let Err(error) = wait(process) {
            tracing::error!(%error, "a VMM that a former server left does not end");
        }
    }
    for entry in entries {
        remove_cgroups(&entry.file_name().to_string_lossy());
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(directory = %entry.path().display(), %error, "a run directory could not be removed");
        }
    }
}

/// Ends the VMM of a run directory, if it still runs.
fn end(directory: &Path) -> Option<OwnedFd> {
    let text = std::fs::read_to_string(directory.join("vmm.pid")).ok()?;
    let pid = Pid::from_raw(text.trim().parse().ok()?)?;
    // Opened first: what is then found to be ours cannot become another process before it is signalled.
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    if !is_ours(pid, &directory.file_name()?.to_string_lossy()) {
        return None;
    }
    tracing::warn!(%pid, directory = %directory.display(), "ending a VMM that a former server left");
    if let Err(error) = pidfd_send_signal(&process, Signal::KILL) {
        tracing::error!(%pid, %error, "the process could not be ended");
        return None;
    }
    Some(process)
}

fn wait(process: &OwnedFd) -> io::Result<()> {
    let timeout = Timespec { tv_sec: END_TIMEOUT.as_secs().cast_signed(), tv_nsec: 0 };
    match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// Removes the VMM's groups in every hierarchy; what was never made is no error.
fn remove_cgroups(name: &str) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, mount, "cgroup" | "cgroup2", ..] = fields[..] else { continue };
        let group = Path::new(mount).join("hearth").join(name);
        if let Err(error) = std::fs::remove_dir(&group)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(group = %group.display(), %error, "a cgroup could not be removed");
        }
    }
}

/// QEMU is told the VM's name, so the command line shows whose process this is.
fn is_ours(pid: Pid, name: &str) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|command| String::from_utf8_lossy(&command).contains(name))
}
