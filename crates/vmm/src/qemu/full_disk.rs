//! Lets a VM go on that QEMU has stopped because the host's disk was full.
//!
//! QEMU stops the guest, keeps the write that failed and tries it again on `cont`; nobody else sends that, and the
//! guest only sees that time passed. See [`super::command_line`] for the disks that this is true of.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, broadcast};
use tracing::{info, warn};

use super::commands::{Cont, Event, QueryStatus};
use super::instance::Instance;
use super::qmp::{Qmp, QmpError};

/// How often it is tried whether there is space again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Run state of a VM that QEMU has stopped because of a disk (`RunState` in QEMU's `qapi/run-state.json`).
const IO_ERROR: &str = "io-error";

/// What the driver's user has asked for last. It is locked while QEMU is told, so that nothing is continued here that
/// was just paused.
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
            while continue_stopped(&qmp, &wanted).await.unwrap_or(false) {
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

/// Continues a VM that is stopped and should run; whether it was.
async fn continue_stopped(qmp: &Qmp, wanted: &Mutex<Wanted>) -> Result<bool, QmpError> {
    let wanted = wanted.lock().await;
    if *wanted == Wanted::Paused || qmp.execute(&QueryStatus {}).await?.status != IO_ERROR {
        return Ok(false);
    }
    qmp.execute(&Cont {}).await?;
    Ok(true)
}
