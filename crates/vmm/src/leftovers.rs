//! VMM processes that an earlier server left behind and nobody takes over. Only processes that are
//! provably ours are ended: the record in their run directory names them, and they are still the
//! ones that were recorded.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal};

use crate::error::{Error, Result};
use crate::process::record::find_any;
use crate::process::remove_groups;

/// How long the kernel may take to clear away a killed VMM, whose memory may be large.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// Ends the VMM of every run directory in `run_root` but those named in `keep`, waits until it is
/// gone, and removes the directory and its cgroups. What cannot be removed is logged. Returns the
/// names of those whose VMM could not be ended; their directories stay.
pub fn remove(run_root: &Path, keep: &BTreeSet<String>) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(run_root) else { return Vec::new() };
    let kept = |entry: &std::fs::DirEntry| keep.contains(&*entry.file_name().to_string_lossy());
    let is_directory = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let (entries, strays): (Vec<_>, Vec<_>) =
        entries.flatten().filter(|entry| !kept(entry)).partition(is_directory);
    for stray in strays {
        removed(&stray.path(), std::fs::remove_file(stray.path()));
    }
    // All are told to end before the first is waited for.
    let ending: Vec<_> = entries.iter().map(|entry| end(&entry.path())).collect();
    let mut alive = Vec::new();
    for (entry, process) in entries.into_iter().zip(ending) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Err(error) =
            process.and_then(|process| process.map_or(Ok(()), |process| wait(&process, &entry.path())))
        {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "a VMM that an earlier server left does not end");
            alive.push(name);
            continue;
        }
        remove_groups(&entry.path());
        removed(&entry.path(), std::fs::remove_dir_all(entry.path()));
    }
    alive
}

fn removed(path: &Path, removed: io::Result<()>) {
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "what an earlier server left could not be removed");
    }
}

/// Ends the VMM that a run directory names, if it still runs, and waits until it is gone. Blocks.
///
/// # Errors
/// When it may still run.
pub fn end_recorded(run_dir: &Path) -> Result<()> {
    if let Some(process) = end(run_dir)? {
        wait(&process, run_dir)?;
        // Nobody else may be there to ask for the exit status of a child; of others the
        // kernel tells nothing.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _ = rustix::process::waitid(WaitId::PidFd(process.as_fd()), options);
    }
    remove_groups(run_dir);
    Ok(())
}

/// Tells the VMM of a run directory to end, if it still runs.
fn end(directory: &Path) -> Result<Option<OwnedFd>> {
    let Some((pid, process)) = find_any(directory)? else { return Ok(None) };
    tracing::warn!(pid, directory = %directory.display(), "ending a VMM that was left");
    match pidfd_send_signal(&process, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(Some(process)),
        Err(error) => Err(not_ended(directory, error.into())),
    }
}

fn not_ended(directory: &Path, source: io::Error) -> Error {
    Error::File { action: "end the process in", path: directory.to_owned(), source }
}

fn wait(process: &OwnedFd, directory: &Path) -> Result<()> {
    let timeout = Timespec { tv_sec: END_TIMEOUT.as_secs().cast_signed(), tv_nsec: 0 };
    match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout)) {
        Ok(0) => Err(not_ended(directory, io::ErrorKind::TimedOut.into())),
        Ok(_) => Ok(()),
        Err(error) => Err(not_ended(directory, error.into())),
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

        std::fs::write(root.path().join("stray"), "").unwrap();

        let reaper = std::thread::spawn(move || ours.wait().unwrap());
        let alive = remove(root.path(), &BTreeSet::from(["kept".to_owned()]));
        assert_eq!(alive, Vec::<String>::new());
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

    #[test]
    #[expect(clippy::zombie_processes, reason = "that it is reaped is the point")]
    fn a_start_that_was_lost_is_ended_by_its_record_and_reaped() {
        let root = tempfile::tempdir().unwrap();
        let child = vmm(root.path(), "lost", true);
        end_recorded(&root.path().join("lost")).unwrap();
        assert!(!Path::new(&format!("/proc/{}", child.id())).exists(), "not even a zombie is left");
        end_recorded(&root.path().join("lost")).unwrap();
        end_recorded(&root.path().join("nobody")).unwrap();
    }
}
