//! What to do about a VM that QEMU has stopped by itself.
//!
//! Because the host's disk was full: QEMU stops the guest, keeps the write that failed and tries it
//! again on `cont`; nobody else sends that, and the guest only sees that time passed. See
//! [`super::command_line`] for the disks that this is true of.
//!
//! Because the guest cannot go on, above all when KVM meets what it cannot run
//! (`internal-error`): such a VM would stand still for ever, with a process that looks well. It
//! is ended, and the reason told.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, broadcast};
use tracing::{info, warn};

use super::commands::{Cont, Event, QueryStatus};
use super::instance::Instance;
use super::qmp::{Qmp, QmpError};
use crate::vm::ExitReason;

/// How often it is tried whether there is space again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Run state of a VM that QEMU has stopped because of a disk (`RunState` in QEMU's
/// `qapi/run-state.json`).
const IO_ERROR: &str = "io-error";

/// Run states that no guest gets out of, and what they mean.
const HOPELESS: [(&str, &str); 3] = [
    ("internal-error", "QEMU stopped the guest because of an internal error"),
    ("guest-panicked", "the guest's kernel has panicked"),
    ("watchdog", "the guest's watchdog has expired"),
];

/// Why a VM in this run state is at its end, if it is.
pub(super) fn hopeless(status: &str) -> Option<ExitReason> {
    let (_, meaning) = HOPELESS.iter().find(|(state, _)| *state == status)?;
    Some(ExitReason::Failed { status: 0, log_tail: format!("{meaning} (run state {status})") })
}

/// What was made of a VM that has stopped.
enum Found {
    /// It runs, or is paused because somebody wants that.
    Wanted,
    /// The disk was full; it was told to go on.
    Continued,
    /// It cannot go on.
    Hopeless(ExitReason),
}

/// What the driver's user has asked for last. It is locked while QEMU is told, so that nothing is
/// continued here that was just paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Paused,
    Running,
}

/// Watches a VM until its process ends. It may be stopped already, under an earlier server.
pub(super) async fn watch(
    instance: Arc<Instance>,
    qmp: Arc<Qmp>,
    wanted: Arc<Mutex<Wanted>>,
    mut events: broadcast::Receiver<Event>,
) {
    let watch = async {
        loop {
            let mut tried = false;
            loop {
                match look(&qmp, &wanted).await {
                    Ok(Found::Continued) => {}
                    Ok(Found::Hopeless(reason)) => return end(&instance, reason).await,
                    // Without a connection there is nobody to ask; the end of the process
                    // is watched elsewhere.
                    Ok(Found::Wanted) | Err(_) => break,
                }
                if !tried {
                    warn!(vm = instance.name, "the disk is full: the guest is stopped until there is space");
                }
                tried = true;
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            if tried {
                info!(vm = instance.name, "the guest is not stopped for want of space any more");
            }
            loop {
                match events.recv().await {
                    Ok(Event::Stopped) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        }
    };
    tokio::select! {
        () = watch => {}
        _ = instance.wait() => {}
    }
}

/// Continues a VM that is stopped for want of space and should run.
async fn look(qmp: &Qmp, wanted: &Mutex<Wanted>) -> Result<Found, QmpError> {
    let wanted = wanted.lock().await;
    if *wanted == Wanted::Paused {
        return Ok(Found::Wanted);
    }
    let status = qmp.execute(&QueryStatus {}).await?.status;
    if let Some(reason) = hopeless(&status) {
        return Ok(Found::Hopeless(reason));
    }
    if status != IO_ERROR {
        return Ok(Found::Wanted);
    }
    qmp.execute(&Cont {}).await?;
    Ok(Found::Continued)
}

async fn end(instance: &Instance, reason: ExitReason) {
    warn!(vm = instance.name, ?reason, "the guest cannot go on; its VMM is ended");
    if let Err(error) = instance.kill(reason).await {
        warn!(vm = instance.name, %error, "a VMM whose guest cannot go on could not be ended");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

    use super::*;
    use crate::process::Process;
    use crate::process::cgroup::{Cgroups, Limits};

    /// A QEMU that says of itself what a test wants, with a process that only sleeps.
    #[expect(clippy::zombie_processes, reason = "the instance reaps it")]
    async fn stopped_with(status: &'static str) -> Arc<Instance> {
        let child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let name = format!("test-stopped-{}", child.id());
        let limits = Limits { memory_mib: None, cpu_percent: None, threads: 8 };
        let group = Cgroups::probe().create(&name, limits).unwrap();
        let process = Process::new(child.id(), pidfd).unwrap();
        let instance = {
            let (run_dir, log) =
                (std::env::temp_dir().join("none"), super::super::log::Log::follow(None).unwrap());
            Instance::new(name, run_dir, process, group, log)
        };
        let (host, qemu) = tokio::net::UnixStream::pair().unwrap();
        tokio::spawn(async move {
            let (reader, mut writer) = qemu.into_split();
            writer.write_all(b"{\"QMP\":{}}\n").await.unwrap();
            let mut lines = BufReader::new(reader).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let request: serde_json::Value = serde_json::from_str(&line).unwrap();
                let value = match request["execute"].as_str().unwrap() {
                    "query-status" => serde_json::json!({ "status": status }),
                    _ => serde_json::json!({}),
                };
                let answer = serde_json::json!({ "return": value, "id": request["id"] });
                writer.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
                if request["execute"] == "qmp_capabilities" {
                    writer.write_all(b"{\"event\":\"STOP\"}\n").await.unwrap();
                }
            }
        });
        let qmp = Arc::new(Qmp::connect(host, Duration::from_secs(5)).await.unwrap());
        let events = qmp.events();
        let wanted = Arc::new(Mutex::new(Wanted::Running));
        tokio::spawn(watch(Arc::clone(&instance), qmp, wanted, events));
        instance
    }

    #[tokio::test]
    async fn a_guest_that_cannot_go_on_is_ended_and_the_reason_told() {
        for (status, expected) in [("internal-error", "internal error"), ("guest-panicked", "panicked")] {
            let instance = stopped_with(status).await;
            let reason = tokio::time::timeout(Duration::from_secs(20), instance.wait()).await.unwrap();
            match reason {
                ExitReason::Failed { status: 0, log_tail } => {
                    assert!(log_tail.contains(expected), "{log_tail}");
                }
                other => panic!("{status}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_guest_that_runs_or_waits_for_space_is_not_ended() {
        for status in ["running", "io-error"] {
            let instance = stopped_with(status).await;
            let ended = tokio::time::timeout(Duration::from_millis(300), instance.wait()).await;
            assert!(ended.is_err(), "{status}: {ended:?}");
            instance.kill(ExitReason::Stopped).await.unwrap();
        }
    }
}
