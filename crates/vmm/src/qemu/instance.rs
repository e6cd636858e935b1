//! One QEMU process and what belongs to it on the host, from its start to the
//! removal of its last trace.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tracing::{debug, warn};

use super::log::Log;
use crate::error::{Error, Result};
use crate::process::cgroup::Group;
use crate::process::record::RECORD_FILE;
use crate::process::{ExitStatus, Process};
use crate::vm::ExitReason;

/// QMP socket in the run directory.
pub(super) const SOCKET_FILE: &str = "qmp.sock";
/// The serial console's last output in the run directory, saved when a VM ends.
pub const CONSOLE_FILE: &str = "console.log";

/// A started process.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) run_dir: PathBuf,
    pub(super) process: Process,
    pub(super) group: Group,
    log: Arc<Log>,
    /// Why the process is about to end, once that is known.
    expected: OnceLock<ExitReason>,
    exit: watch::Sender<Option<ExitReason>>,
}

impl Instance {
    /// Starts watching the process.
    pub(super) fn new(
        name: String,
        run_dir: PathBuf,
        process: Process,
        group: Group,
        log: Arc<Log>,
    ) -> Arc<Self> {
        let exit = watch::Sender::new(None);
        let instance = Arc::new(Self { name, run_dir, process, group, log, expected: OnceLock::new(), exit });
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
        let reason = if let Some(reason) = self.expected.get() {
            reason.clone()
        } else {
            self.log.complete().await;
            ExitReason::Failed { status: status.0, log_tail: self.log.last_lines() }
        };
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

    /// The error for a process that ended while something was asked of it.
    pub(super) fn exited_error(&self, otherwise: &str) -> Error {
        let log_tail = Some(self.log.last_lines()).filter(|tail| !tail.is_empty());
        Error::Exited { name: self.name.clone(), log_tail: log_tail.unwrap_or_else(|| otherwise.to_owned()) }
    }
}
