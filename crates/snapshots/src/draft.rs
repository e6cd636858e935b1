//! A snapshot that is being written.

use std::fs;
use std::path::{Path, PathBuf};

use hearth_vmm::snapshot::{SnapshotDisk, file_error};
use hearth_vmm::{Result, SnapshotTarget};

use crate::id::SnapshotId;
use crate::removal::remove_all;
use crate::store::{Lease, Snapshots, restrict};

/// Name of a draft's directory, in that of what it is for.
pub(crate) const DRAFT: &str = "draft";

/// A directory for the next snapshot of a microVM. Without [`Draft::commit`] nothing of it stays,
/// and the snapshot before is what it was.
#[derive(Debug)]
pub struct Draft {
    snapshots: Snapshots,
    target: SnapshotTarget,
    reference: PathBuf,
    /// Its layers are read meanwhile.
    _previous: Option<Lease>,
}

impl Draft {
    pub(crate) fn begin(
        snapshots: &Snapshots,
        directory: &Path,
        reference: PathBuf,
        previous: Option<Lease>,
        disk: (&str, &Path),
    ) -> Result<Self> {
        empty(directory)?;
        let (drive_id, path) = disk;
        let disks = vec![SnapshotDisk { drive_id: drive_id.to_owned(), path: path.to_owned() }];
        let before = previous.as_ref().map(|lease| lease.directory().to_owned());
        let target = SnapshotTarget::Layer { directory: directory.to_owned(), previous: before, disks };
        let draft = Self { snapshots: snapshots.clone(), target, reference, _previous: previous };
        let disk = directory.join(path.file_name().unwrap_or_default());
        fs::hard_link(path, &disk).map_err(|error| file_error("link", path, error))?;
        Ok(draft)
    }

    /// Where and of what a driver is to write the snapshot.
    pub fn target(&self) -> &SnapshotTarget {
        &self.target
    }

    pub(crate) fn directory(&self) -> &Path {
        self.target.directory()
    }

    /// Makes what the driver has written the microVM's snapshot, instead of the one before. Waits
    /// for the disk.
    pub fn commit(self) -> Result<SnapshotId> {
        self.snapshots.commit(self.directory(), &self.reference)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        remove_all(self.directory());
    }
}

/// Makes an empty directory, instead of what a crash has left in its place.
pub(crate) fn empty(directory: &Path) -> Result<()> {
    remove_all(directory);
    fs::create_dir(directory)
        .and_then(|()| restrict(directory))
        .map_err(|error| file_error("create", directory, error))
}
