//! Taking over a QEMU process of an earlier server: found by its record, driven by a new
//! connection to its QMP socket.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use tracing::{info, warn};

use super::commands::QueryStatus;
use super::instance::{Instance, SOCKET_FILE};
use super::launch::{Connected, Launcher, THREADS, connect_again};
use super::log::{self, Log};
use super::stopped::{Wanted, hopeless};
use super::vm::{QemuVm, Ram, end_unwatched};
use crate::error::{Error, Result};
use crate::process::cgroup::Limits;
use crate::process::record::Record;
use crate::process::{Process, group_name, remove_earlier_groups};
use crate::snapshot::{MEMORY_FILE, Manifest, file_error};
use crate::vm::{Adopted, Adoption};

/// What a VM is found doing (`RunState` in QEMU's `qapi/run-state.json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Running,
    Paused,
    /// The guest has powered itself off or given up.
    Ended,
}

/// Takes a VM over; `None` when its process is gone.
pub(super) async fn adopt(launcher: &Arc<Launcher>, adoption: Adoption) -> Result<Option<Adopted>> {
    let Adoption { name, run_dir, guest_channel } = adoption;
    let Some(record) = Record::read(&run_dir)? else { return Ok(None) };
    let Some(pidfd) = record.process.find(&run_dir) else { return Ok(None) };
    let Some(base_directory) = record.base_directory else {
        return Err(Error::Unsupported { operation: "the adoption of a VM that was not restored" });
    };
    let ram = clone_of(&base_directory)?;
    if let Ram::Clone { base, .. } = &ram
        && base.platform.accelerator != launcher.platform.accelerator
    {
        // It goes on under its own, which its snapshots record too; nothing of how it is
        // driven depends on that.
        let (own, server) = (&base.platform.accelerator, &launcher.platform.accelerator);
        warn!(vm = name, own, server, "a VM under another accelerator than the server's is taken over");
    }
    let error = |source| Error::Spawn { name: name.clone(), source };
    let limits = Limits {
        memory_mib: record.memory_limit_mib,
        cpu_percent: record.cpu_limit_percent,
        threads: THREADS,
    };
    // The earlier server may have been killed before it had put the process into its groups.
    let group = launcher.cgroups.create(&group_name(&name, &run_dir), limits).map_err(error)?;
    let process = Process::new(record.process.pid, pidfd).map_err(error)?;
    let log = Log::follow(log::pipe_of(record.process.pid)).map_err(error)?;
    let instance = Instance::new(name.clone(), run_dir.clone(), process, group, log);
    let connection = connect_again(&run_dir)
        .map_err(|error| file_error("connect to", &run_dir.join(SOCKET_FILE), error))?;
    let qmp = Arc::new(launcher.connect(&instance, connection).await?);
    remove_earlier_groups(&name);
    let status = match qmp.execute(&QueryStatus {}).await {
        Ok(status) => status.status,
        Err(error) => return Err(super::launch::translate(&instance, error).await),
    };
    let found = found(&status)?;
    if found == Found::Ended {
        end_unwatched(&instance, &qmp, &status).await;
    }
    let wanted = if found == Found::Paused { Wanted::Paused } else { Wanted::Running };
    info!(vm = name, pid = record.process.pid, status, "a VMM of an earlier server is taken over");
    let vm = QemuVm::watched(launcher, Connected { instance, qmp }, ram, wanted, guest_channel);
    Ok(Some(Adopted { vm, running: found != Found::Paused }))
}

fn clone_of(base_directory: &Path) -> Result<Ram> {
    let path = base_directory.join(MEMORY_FILE);
    let memory = File::open(&path).map_err(|error| file_error("open", &path, error))?;
    Ok(Ram::Clone { base: Box::new(Manifest::read_existing(base_directory)?), memory })
}

fn found(status: &str) -> Result<Found> {
    match status {
        "running" | "io-error" => Ok(Found::Running),
        "paused" => Ok(Found::Paused),
        "shutdown" => Ok(Found::Ended),
        other if hopeless(other).is_some() => Ok(Found::Ended),
        // `inmigrate` above all: nobody knows how much of its state it has.
        other => {
            let message = format!("it was left in the state {other}");
            Err(Error::Refused { command: "adopt".to_owned(), message })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_told_apart() {
        assert_eq!(found("io-error").unwrap(), Found::Running, "a full disk is the driver's business");
        assert_eq!(found("paused").unwrap(), Found::Paused);
        for ended in ["shutdown", "internal-error", "guest-panicked"] {
            assert_eq!(found(ended).unwrap(), Found::Ended, "{ended}");
        }
        let error = found("inmigrate").unwrap_err().to_string();
        assert!(error.contains("inmigrate"), "{error}");
    }
}
