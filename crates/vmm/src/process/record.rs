//! `vmm.json` in a run directory: what a later server process must know to take a VM over, and how
//! it makes sure that the process it finds is the one that was recorded.
//!
//! The file is written before the process may become a VMM (see [`super::jail`]): what
//! runs is always recorded.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::snapshot::file_error;

/// Name of the file.
pub(crate) const RECORD_FILE: &str = "vmm.json";
/// Version that is written, and the only one that is taken over.
const VERSION: u32 = 1;

/// Which process it is. Every version of the file has these members, so that any version of the
/// program can end what another one has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Process id in the PID namespace of the server.
    pub(crate) pid: u32,
    /// When it was started, in clock ticks since the host was (field 22 of proc_pid_stat(5)).
    start_ticks: u64,
    /// Which start of the host that was.
    boot_id: String,
    /// Inode of the run directory: a copy of a data directory must not take over the
    /// VMs of the original.
    run_dir_inode: u64,
}

/// What is recorded of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Version of this form.
    pub(crate) version: u32,
    /// Which process.
    pub(crate) process: Identity,
    /// Directory of the base snapshot that it was restored from; none of a VM that was booted.
    pub(crate) base_directory: Option<PathBuf>,
    /// Memory limit in MiB.
    pub(crate) memory_limit_mib: Option<u32>,
    /// CPU limit in hundredths of a CPU.
    pub(crate) cpu_limit_percent: Option<u32>,
}

/// The members of every version.
#[derive(Deserialize)]
struct AnyVersion {
    version: u32,
    process: Identity,
}

impl Identity {
    /// Of a process that was just started by this one and cannot have been replaced.
    pub(crate) fn of(pid: u32, run_dir: &Path) -> io::Result<Self> {
        Ok(Self {
            pid,
            start_ticks: start_ticks(pid)?,
            boot_id: boot_id()?,
            run_dir_inode: fs::metadata(run_dir)?.ino(),
        })
    }

    /// The process, if it still runs.
    pub(crate) fn find(&self, run_dir: &Path) -> Option<OwnedFd> {
        let pid = Pid::from_raw(self.pid.cast_signed())?;
        // Opened first: what is then found to be the recorded process cannot become another
        // one before it is used.
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let same = Self::of(self.pid, run_dir).is_ok_and(|found| found == *self);
        (same && !has_ended(&process)).then_some(process)
    }
}

impl Record {
    pub(crate) fn new(process: Identity) -> Self {
        Self {
            version: VERSION,
            process,
            base_directory: None,
            memory_limit_mib: None,
            cpu_limit_percent: None,
        }
    }

    /// Writes the file; only the server may read it.
    pub(crate) fn write(&self, run_dir: &Path) -> io::Result<()> {
        let options = fs::File::options().write(true).create(true).truncate(true).mode(0o600).to_owned();
        options.open(run_dir.join(RECORD_FILE))?.write_all(&serde_json::to_vec(self)?)
    }

    /// Reads the file; `None` without one, which means that no VMM was started there.
    pub(crate) fn read(run_dir: &Path) -> Result<Option<Self>> {
        let path = run_dir.join(RECORD_FILE);
        let Some(text) = read(&path)? else { return Ok(None) };
        let damaged =
            |error: serde_json::Error| Error::Damaged { path: path.clone(), detail: error.to_string() };
        let AnyVersion { version, .. } = serde_json::from_slice(&text).map_err(damaged)?;
        if version != VERSION {
            return Err(Error::OtherFormat { path, found: version, known: VERSION });
        }
        Ok(Some(serde_json::from_slice(&text).map_err(damaged)?))
    }
}

/// The process of a run directory that still runs, whatever version recorded it, with its id.
pub(crate) fn find_any(run_dir: &Path) -> Result<Option<(u32, OwnedFd)>> {
    let Some(text) = read(&run_dir.join(RECORD_FILE))? else { return Ok(None) };
    // What was not written to its end belongs to a process that has not become a
    // VMM, and never will.
    let Ok(AnyVersion { process, .. }) = serde_json::from_slice(&text) else { return Ok(None) };
    Ok(process.find(run_dir).map(|found| (process.pid, found)))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error("read", path, error)),
    }
}

/// Whether a process only waits for its parent to ask for its exit status, which need not be soon.
fn has_ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn start_ticks(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name, which may contain anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_ascii_whitespace().nth(19).and_then(|ticks| ticks.parse().ok());
    ticks.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recorded_process_is_found() {
        let (run_dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let identity = Identity::of(child.id(), run_dir.path()).unwrap();
        Record::new(identity.clone()).write(run_dir.path()).unwrap();
        assert_eq!(fs::metadata(run_dir.path().join(RECORD_FILE)).unwrap().mode() & 0o777, 0o600);
        let record = Record::read(run_dir.path()).unwrap().unwrap();
        assert_eq!(record.process, identity);
        assert!(identity.find(run_dir.path()).is_some());
        assert_eq!(find_any(run_dir.path()).unwrap().unwrap().0, child.id());

        assert!(identity.find(copy.path()).is_none(), "the copy of a data directory");
        let other = Identity { start_ticks: identity.start_ticks + 1, ..identity.clone() };
        assert!(other.find(run_dir.path()).is_none(), "another process with the same id");
        let other = Identity { boot_id: "x".into(), ..identity.clone() };
        assert!(other.find(run_dir.path()).is_none(), "the host was started again");
        let process = identity.find(run_dir.path()).unwrap();
        child.kill().unwrap();
        poll(&mut [PollFd::new(&process, PollFlags::IN)], None).unwrap();
        assert!(identity.find(run_dir.path()).is_none(), "it has ended, though nobody asked for its status");
        child.wait().unwrap();
    }

    #[test]
    fn another_version_can_be_ended_but_not_taken_over() {
        let run_dir = tempfile::tempdir().unwrap();
        assert!(Record::read(run_dir.path()).unwrap().is_none());
        assert!(find_any(run_dir.path()).unwrap().is_none());
        let identity = Identity::of(std::process::id(), run_dir.path()).unwrap();
        let text = serde_json::json!({ "version": 2, "process": identity, "new": "member" });
        fs::write(run_dir.path().join(RECORD_FILE), text.to_string()).unwrap();
        let error = Record::read(run_dir.path()).unwrap_err();
        assert!(matches!(error, Error::OtherFormat { found: 2, known: 1, .. }), "{error}");
        assert_eq!(find_any(run_dir.path()).unwrap().unwrap().0, std::process::id());

        fs::write(run_dir.path().join(RECORD_FILE), &text.to_string()[..20]).unwrap();
        assert!(matches!(Record::read(run_dir.path()), Err(Error::Damaged { .. })));
        assert!(find_any(run_dir.path()).unwrap().is_none());
    }
}
