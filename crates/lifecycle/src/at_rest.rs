//! A microVM between two lives: whether its snapshot and its disk fit each other, and how a resume
//! that did not take place is undone.
//!
//! A guest that runs writes to its disk, which then no longer fits the snapshot. The record says
//! which snapshot is spent (`MicrovmRecord::spent`): a newer one, written by a suspend, fits. A
//! resume works on the disk while the snapshot has a copy of it, as it was; until the record says
//! RUNNING the copy can be put back, also after a power failure. So the copy is synced before the
//! guest runs, and goes when the record is on the disk too. Without a copy the record says before
//! the guest runs that there is no way back.

use hearth_guest_protocol::chain;
use hearth_records::{MicrovmRecord, Phase};
use hearth_snapshots::MicrovmFiles;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::records::Records;

/// Number of the microVM's own snapshot; 0 without one.
pub(crate) fn own_snapshot(record: &MicrovmRecord, own: &MicrovmFiles) -> u32 {
    own.generation().unwrap_or_else(|error| {
        tracing::error!(microvm = %record.id, error = %chain(&error), "a snapshot cannot be read");
        // One that rests is resumed, which fails with what is wrong.
        record.spent + u32::from(matches!(record.phase, Phase::Suspended | Phase::Resuming))
    })
}

/// Begins to copy the disk of a suspended microVM; answers whether there is a copy. Without one,
/// for want of space, it is resumed anyway.
pub(crate) fn keep_disk(own: &MicrovmFiles) -> JoinHandle<bool> {
    let own = own.clone();
    spawn_blocking(move || own.keep_disk())
}

/// Gives up the way back of a microVM that runs: if it is lost from now on, what it was before is
/// not put back, as clients may have seen what it became. So that it runs is brought to the disk
/// first.
pub(crate) async fn forget_way_back(records: &Records, own: &MicrovmFiles) {
    if own.has_way_back().is_ok_and(|way_back| !way_back) {
        return;
    }
    let synced = records.microvms.sync().await;
    if let Err(error) = &synced {
        tracing::warn!(%error, "the copy of a disk stays");
        return;
    }
    let own = own.clone();
    if let Ok(Err(error)) = spawn_blocking(move || own.forget_way_back()).await {
        tracing::warn!(error = %chain(&error), "the copy of a disk stays");
    }
}

/// Makes the disk what it was before a resume that did not take place; memory and disk fit each
/// other when this has succeeded. When it has not, which is logged, it can be done again.
pub(crate) fn put_back(own: &MicrovmFiles) -> bool {
    let put = own.put_back();
    if let Err(error) = &put {
        tracing::error!(error = %chain(error), "a disk could not be put back");
    }
    put.is_ok()
}
