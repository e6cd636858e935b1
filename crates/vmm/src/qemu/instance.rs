//! One QEMU process and what belongs to it on the host, from its start to the removal of its last trace.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tracing::{debug, warn};

use crate::error::{Error, Result};
use crate::process::cgroup::Group;
use crate::process::record::RECORD_FILE;
use crate::process::{ExitStatus, Process};
use crate::vm::ExitReason;

/// QMP socket in the run directory.
pub(super) const SOCKET_FILE: &str = "qmp.sock";
/// QEMU's standard error in the run directory.
pub(super) const LOG_FILE: &str = "vmm.log";
/// The serial console's last output in the run directory, saved when a VM ends.
pub const CONSOLE_FILE: &str = "console.log";

/// How much of a log is quoted in errors.
const LOG_TAIL_BYTES: usize = 2000;

/// A started process.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) run_dir: PathBuf,
    pub(super) process: Process,
    pub(super) group: Group,
    /// Why the process is about to end, once that is known.
    expected: OnceLock<ExitReason>,
    exit: watch::Sender<Option<ExitReason>>,
}

impl Instance {
    /// Starts watching the process.
    pub(super) fn new(name: String, run_dir: PathBuf, process: Process, group: Group) -> Arc<Self> {
        let exit = watch::Sender::new(None);
        let instance = Arc::new(Self { name, run_dir, process, group, expected: OnceLock::new(), exit });
        tokio::spawn(Arc::clone(&instance).reap());
        instance
    }

    /// Waits for the end of the process, cleans up and tells everybody who waits.
    async fn reap(self: Arc<Self>) {
        let status = self.process.reap().await.unwrap_or_else(|error| {
            warn!(vm = self.name, %error, "cannot wait for the VMM");
            ExitStatus(-1)
        });
        for file in [SOCKET_FILE, RECORD_FILE] {
            let path = self.run_dir.join(file);
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                warn!(path = %path.display(), %error, "cannot remove a run-time file");
            }
        }
        self.group.remove();
        let unexpected = || ExitReason::Failed { status: status.0, log_tail: self.log_tail() };
        let reason = self.expected.get().cloned().unwrap_or_else(unexpected);
        debug!(vm = self.name, ?reason, "the VMM is gone");
        self.exit.send_replace(Some(reason));
    }

    /// Waits until the process is gone and everything is cleaned up.
    pub(super) async fn wait(&self) -> ExitReason {
        let mut exit = self.exit.subscribe();
        let reason = exit.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| reason.clone()).expect("invariant: the sender lives as long as this")
    }

    /// Ends the process for a reason of our own and waits until it is gone.
    pub(super) async fn kill(&self, reason: ExitReason) -> Result<()> {
        // Not the first reason: then that one counts.
        let _ = self.expected.set(reason);
        self.process.kill().map_err(|source| Error::File {
            action: "end the process in",
            path: self.run_dir.clone(),
            source,
        })?;
        self.wait().await;
        Ok(())
    }

    /// The last lines of QEMU's standard error.
    pub(super) fn log_tail(&self) -> String {
        tail(&self.run_dir.join(LOG_FILE))
    }

    /// The error for a process that ended while something was asked of it.
    pub(super) fn exited_error(&self, otherwise: &str) -> Error {
        let log_tail = Some(self.log_tail()).filter(|tail| !tail.is_empty());
        Error::Exited { name: self.name.clone(), log_tail: log_tail.unwrap_or_else(|| otherwise.to_owned()) }
    }
}

fn tail(path: &Path) -> String {
    let content = fs::read(path).unwrap_or_default();
    let start = content.len().saturating_sub(LOG_TAIL_BYTES);
    let text = String::from_utf8_lossy(&content[start..]);
    // Not a line that is cut off.
    let text = if start > 0 { text.split_once('\n').map_or(&*text, |(_, rest)| rest) } else { &text };
    text.trim_end().to_owned()
}
