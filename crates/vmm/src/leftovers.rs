//! VMM processes that an earlier server left behind and nobody takes over. Only processes that are provably ours are
//! ended: the record in their run directory names them, and they are still the ones that were recorded.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use crate::process::cgroup;
use crate::process::record::find_any;

/// How long the kernel may take to clear away a killed VMM, whose memory may be large.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// Ends the VMM of every run directory in `run_root` but those named in `keep`, waits until it is gone, and removes the
/// directory and its cgroups. What cannot be removed is logged.
pub fn remove(run_root: &Path, keep: &BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(run_root) else { return };
    let kept = |entry: &std::fs::DirEntry| keep.contains(&*entry.file_name().to_string_lossy());
    let entries: Vec<_> = entries.flatten().filter(|entry| !kept(entry)).collect();
    // All are told to end before the first is waited for.
    let ending: Vec<_> = entries.iter().filter_map(|entry| end(&entry.path())).collect();
    for process in &ending {
        if let Err(error) = wait(process) {
            tracing::error!(%error, "a VMM that an earlier server left does not end");
        }
    }
    for entry in entries {
        cgroup::remove_named(&entry.file_name().to_string_lossy());
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(directory = %entry.path().display(), %error, "a run directory could not be removed");
        }
    }
}

/// Ends the VMM of a run directory, if it still runs.
fn end(directory: &Path) -> Option<OwnedFd> {
    let (pid, process) = match find_any(directory) {
        Ok(found) => found?,
        Err(error) => {
            tracing::error!(error = %error, "a VMM that an earlier server left may still run");
            return None;
        }
    };
    tracing::warn!(pid, directory = %directory.display(), "ending a VMM that an earlier server left");
    if let Err(error) = pidfd_send_signal(&process, Signal::KILL) {
        tracing::error!(pid, %error, "the process could not be ended");
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};

    use super::*;
    use crate::process::record::{Identity, Record};

    /// A process that stands for a VMM, recorded in a run directory if `recorded`.
    fn vmm(run_root: &Path, name: &str, recorded: bool) -> Child {
        let child = Command::new("sleep").arg("60").arg0(name).spawn().unwrap();
        let run_dir = run_root.join(name);
        std::fs::create_dir(&run_dir).unwrap();
        if recorded {
            Record::new(Identity::of(child.id(), &run_dir).unwrap()).write(&run_dir).unwrap();
        }
        child
    }

    #[test]
    fn only_what_is_recorded_here_and_not_kept_is_ended() {
        let (root, copied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut ours = vmm(root.path(), "ours", true);
        let mut kept = vmm(root.path(), "kept", true);
        // A process with the right name and no record of ours: a stranger's.
        let mut foreign = vmm(root.path(), "foreign", false);
        // The data directory of another server, copied while it ran: its VMM is not ours.
        let mut other = vmm(copied.path(), "other", true);
        let copy = root.path().join("other");
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(copied.path().join("other")).unwrap().flatten() {
            std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }

        let reaper = std::thread::spawn(move || ours.wait().unwrap());
        remove(root.path(), &BTreeSet::from(["kept".to_owned()]));
        assert!(!reaper.join().unwrap().success(), "it was ended by a signal");
        for child in [&mut kept, &mut foreign, &mut other] {
            assert!(child.try_wait().unwrap().is_none(), "it still runs");
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let left: Vec<_> =
            std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
    }
}
