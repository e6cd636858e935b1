//! Disks that belong to a snapshot. They are not part of it, but memory and disk
//! must fit each other.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::check_content;
use super::{file_error, settle, sparse_digest};
use crate::error::Result;

/// A disk of a VM of which a snapshot is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotDisk {
    /// [`crate::Drive::drive_id`].
    pub drive_id: String,
    /// The file that takes the guest's writes.
    pub path: PathBuf,
}

/// What a disk was when the snapshot was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskState {
    /// [`crate::Drive::drive_id`].
    pub drive_id: String,
    /// Length of the file.
    pub bytes: u64,
    /// Digest of its content, see [`sparse_digest`].
    pub blake3: String,
}

impl DiskState {
    /// Looks at the disk of a paused VM, after making its content durable.
    pub(crate) fn of(disk: &SnapshotDisk) -> Result<Self> {
        let path = &disk.path;
        let file = File::open(path).map_err(|source| file_error("open", path, source))?;
        settle(&file, path)?;
        let bytes = file.metadata().map_err(|source| file_error("stat", path, source))?.len();
        Ok(Self { drive_id: disk.drive_id.clone(), bytes, blake3: sparse_digest(path)? })
    }

    /// Refuses a disk that is not as it was.
    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        check_content(path, self.bytes, &self.blake3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_changed_shortened_or_missing_disk_is_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.qcow2");
        std::fs::write(&path, b"blocks").unwrap();
        let state = DiskState::of(&SnapshotDisk { drive_id: "root".into(), path: path.clone() }).unwrap();
        state.check(&path).unwrap();
        for content in [b"blockz".as_slice(), b"block"] {
            std::fs::write(&path, content).unwrap();
            let error = state.check(&path).unwrap_err();
            assert!(matches!(&error, Error::Damaged { path: found, .. } if *found == path), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        let error = state.check(&path).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
}
