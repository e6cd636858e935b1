//! After a start of the service: what the former process left is taken over or brought to its end.
//!
//! A microVM whose snapshot fits its disk is suspended, whatever the service was doing with it when it was killed. What
//! was running cannot be taken over yet: its leftovers are removed and its record says why it ended.

use std::path::Path;
use std::sync::Arc;

use hearth_api::{MicrovmState, Timestamp};
use hearth_store::MicrovmRecord;

use crate::registry::Registry;

/// `stateReason` of a microVM whose service was killed under it.
pub const REASON_SERVICE_LOST: &str = "The service ended unexpectedly while the MicroVM was not suspended.";

/// Takes charge of every microVM that has not ended.
pub async fn recover(registry: &Arc<Registry>) -> Result<(), hearth_store::Error> {
    let host = registry.host().clone();
    for mut record in host.store.microvms_alive().await? {
        let own = host.files.microvm(&record.id);
        if own.directory.join("manifest.json").exists() && !own.diverged.exists() {
            if record.state != MicrovmState::Suspended {
                record.generation += 1;
                record.state = MicrovmState::Suspended;
                record.suspended_at = Some(host.clock.wall());
                host.store.update_microvm(&record).await?;
            }
            registry.take_suspended(record);
            continue;
        }
        host.release(&record, None).await;
        end(&mut record, host.clock.wall());
        host.store.update_microvm(&record).await?;
        tracing::warn!(microvm = %record.id, "ended: {REASON_SERVICE_LOST}");
    }
    sweep(&host.files.microvms(), |id| registry_knows(registry, id));
    Ok(())
}

fn end(record: &mut MicrovmRecord, now: Timestamp) {
    record.generation += 1;
    record.state = MicrovmState::Terminated;
    record.state_reason = Some(REASON_SERVICE_LOST.to_owned());
    record.suspended_at = None;
    record.terminated_at = Some(now);
}

fn registry_knows(registry: &Registry, id: &str) -> bool {
    registry.knows(&hearth_api::MicrovmId::from_stored(id))
}

/// Removes directories that belong to no microVM.
fn sweep(parent: &Path, known: impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !known(&entry.file_name().to_string_lossy())
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "a leftover could not be removed");
        }
    }
}
