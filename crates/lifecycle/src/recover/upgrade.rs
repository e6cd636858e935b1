//! Files by which earlier versions said what the record says now: what they say is taken over into
//! the record, once, and then they go.

use std::path::PathBuf;

use hearth_api::MicrovmState;
use hearth_records::{MicrovmRecord, NodeId, Phase};
use hearth_snapshots::MicrovmFiles;

use super::WRITE_PAUSE;
use crate::at_rest::own_snapshot;
use crate::machine::EnabledHooks;
use crate::steps::Host;

/// What earlier versions have left in the directory of a microVM.
#[derive(Debug)]
pub(super) struct OldFiles {
    /// Is there while the disk may have gone on from a snapshot, and has the BLAKE3 digest of that
    /// snapshot's manifest, `none` if the guest began with the image's, or nothing after a power
    /// failure.
    diverged: PathBuf,
    /// Is there when the run hook has answered.
    run_hook_called: PathBuf,
    /// What the run hook is to be given, until it has been called.
    payload: PathBuf,
}

impl OldFiles {
    pub(super) fn of(own: &MicrovmFiles) -> Self {
        let [diverged, run_hook_called, payload] =
            ["diverged", "run-hook-called", "run-hook-payload"].map(|name| own.directory().join(name));
        Self { diverged, run_hook_called, payload }
    }

    /// The record with what they say.
    pub(super) fn tell(
        &self,
        record: &MicrovmRecord,
        own: &MicrovmFiles,
        hooks: EnabledHooks,
    ) -> MicrovmRecord {
        let mut to = record.clone();
        let snapshot = own_snapshot(record, own);
        // Those that nobody has claimed are of a version without phases.
        if record.owner.node == NodeId::nobody() {
            to.phase = match record.state {
                MicrovmState::Pending if snapshot > 0 => Phase::Resuming,
                MicrovmState::Pending if self.run_hook_called.exists() => Phase::Running,
                MicrovmState::Pending if hooks.run => Phase::RunHook,
                MicrovmState::Suspending => Phase::SuspendHook,
                _ => record.phase,
            };
        }
        let way_back =
            matches!(to.phase, Phase::Resuming | Phase::Suspended) && own.has_way_back().unwrap_or(true);
        if self.has_diverged(own) && !way_back {
            to.spent = to.spent.max(snapshot);
        }
        to
    }

    fn has_diverged(&self, own: &MicrovmFiles) -> bool {
        let Ok(began_with) = std::fs::read_to_string(&self.diverged) else { return self.diverged.exists() };
        let present = own.snapshot_id().map_or("none".to_owned(), |id| id.to_string());
        began_with.is_empty() || began_with == present
    }

    /// Removes them; the record has been written. A payload that is still needed is recorded first.
    pub(super) async fn give_up(&self, host: &Host, record: &MicrovmRecord) {
        if record.phase.is_first_start()
            && let Ok(payload) = std::fs::read_to_string(&self.payload)
        {
            while let Err(error) = take_payload(host, record, &payload).await {
                tracing::error!(microvm = %record.id, error, "the payload of a run hook could not be taken over");
                tokio::time::sleep(WRITE_PAUSE).await;
            }
        }
        for path in [&self.diverged, &self.run_hook_called, &self.payload] {
            if let Err(error) = std::fs::remove_file(path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "a file of an earlier version could not be removed");
            }
        }
    }
}

async fn take_payload(host: &Host, record: &MicrovmRecord, payload: &str) -> Result<(), String> {
    let sealed = host.sealing.seal(&record.id, payload).map_err(|error| error.to_string())?;
    host.records.microvms.put_payload(&record.id, &sealed).await.map_err(|error| error.to_string())
}
