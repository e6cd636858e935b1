//! The files of a microVM between two lives: whether its snapshot and its disk fit each other, and
//! how a resume that did not take place is undone.
//!
//! A guest that runs writes to its disk, which then no longer fits the snapshot. The record says
//! which snapshot is spent (`MicrovmRecord::spent`): a newer one, written by a suspend, fits. A
//! resume works on the disk while a copy of it, `disk.kept`, stays as it was; until the record says
//! RUNNING the copy can be put back, also after a power failure. So the copy is synced before the
//! guest runs, and goes when the record is on the disk too. Without a copy the record says before
//! the guest runs that there is no way back.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use hearth_guest_protocol::chain;
use hearth_records::{MicrovmRecord, Phase};
use hearth_snapshots::MicrovmFiles;
use hearth_vmm::snapshot::generation;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::records::Records;

/// Number of the microVM's own snapshot; 0 without one.
pub(crate) fn own_snapshot(record: &MicrovmRecord, own: &MicrovmFiles) -> u32 {
    generation(&own.directory).unwrap_or_else(|error| {
        tracing::error!(microvm = %record.id, error = %chain(&error), "a snapshot cannot be read");
        // One that rests is resumed, which fails with what is wrong.
        record.spent + u32::from(matches!(record.phase, Phase::Suspended | Phase::Resuming))
    })
}

/// Begins to copy the disk of a suspended microVM; answers whether there is a copy. Without one,
/// for want of space, it is resumed anyway.
pub(crate) fn keep_disk(own: &MicrovmFiles) -> JoinHandle<bool> {
    let (overlay, kept, directory) = (own.overlay.clone(), own.kept.clone(), own.directory.clone());
    spawn_blocking(move || {
        let copied = hearth_vmm::snapshot::copy_disk(&overlay, &kept);
        if let Err(error) = &copied {
            tracing::warn!(error = %chain(error), "a disk could not be copied before a resume");
            return false;
        }
        sync(&directory);
        true
    })
}

/// Removes the copy of a disk with which no guest has run, or of a microVM that is ended.
pub(crate) fn forget_kept_or_warn(own: &MicrovmFiles) {
    if let Err(error) = remove(&own.kept) {
        tracing::warn!(path = %own.kept.display(), %error, "the copy of a disk could not be removed");
    }
}

/// Removes the copy of the disk of a microVM that runs: if it is lost from now on, what it was
/// before is not put back, as clients may have seen what it became. So that it runs is brought to
/// the disk first.
pub(crate) async fn forget_kept(records: &Records, own: &MicrovmFiles) -> io::Result<()> {
    if !own.kept.exists() {
        return Ok(());
    }
    records.microvms.sync().await.map_err(io::Error::other)?;
    remove(&own.kept)
}

/// Makes the disk what it was before a resume that did not take place; memory and disk fit each
/// other when this has succeeded. When it has not, which is logged, the copy is still there, and
/// it can be done again.
pub(crate) fn put_back(own: &MicrovmFiles) -> bool {
    let put = fs::rename(&own.kept, &own.overlay);
    if let Err(error) = &put {
        tracing::error!(directory = %own.directory.display(), %error, "a disk could not be put back");
    }
    put.is_ok()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Brings the names in a directory to the disk. Where that fails they are there
/// until a power failure.
fn sync(directory: &Path) {
    if let Err(error) = File::open(directory).and_then(|directory| directory.sync_all()) {
        tracing::warn!(path = %directory.display(), %error, "a directory could not be synced");
    }
}
