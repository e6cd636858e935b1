//! Base snapshots: the last steps that make one.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::digest::check_content;
use super::manifest::{DeviceState, Manifest, MemoryLayout};
use super::{
    DEVICE_STATE_FILE, DiskState, LayerStack, MEMORY_FILE, Platform, SnapshotDisk, file_error, settle,
    sparse_digest,
};
use crate::error::Result;
use crate::vm::SnapshotInfo;

/// Turns the memory file of a stopped VM, its device state and its disks into a snapshot.
pub(crate) fn finish_base(
    directory: &Path,
    platform: Platform,
    device_state: &[u8],
    disks: &[SnapshotDisk],
) -> Result<SnapshotInfo> {
    let path = directory.join(MEMORY_FILE);
    let file = File::open(&path).map_err(|source| file_error("open", &path, source))?;
    settle(&file, &path)?;
    // Read-only for everybody: from now on VMMs of other users map it.
    file.set_permissions(Permissions::from_mode(0o444))
        .map_err(|source| file_error("chmod", &path, source))?;
    std::os::unix::fs::fchown(&file, Some(0), Some(0))
        .map_err(|source| file_error("chown", &path, source))?;
    let blake3 = sparse_digest(&path)?;
    let metadata = file.metadata().map_err(|source| file_error("stat", &path, source))?;
    let allocated_bytes = metadata.blocks() * 512;

    let device_state = DeviceState::write(directory, DEVICE_STATE_FILE, device_state)?;
    let info = SnapshotInfo { memory_bytes: allocated_bytes, device_state_bytes: device_state.bytes };
    let memory = MemoryLayout::Base { allocated_bytes, blake3 };
    let disks = disks.iter().map(DiskState::of).collect::<Result<_>>()?;
    Manifest::new(platform, metadata.len(), memory, device_state, disks).commit(directory)?;
    Ok(info)
}

/// Checks every byte of a snapshot against its checksums. Too slow for each launch of a base (it
/// reads all of its memory); meant for `doctor`, for a first use after a start, and for tests.
pub fn verify(directory: &Path) -> Result<()> {
    let manifest = Manifest::read_existing(directory)?;
    manifest.device_state.open(directory)?;
    let MemoryLayout::Base { blake3, .. } = &manifest.memory else {
        return LayerStack::open(directory, &manifest)?.into_restoration().verify();
    };
    check_content(&directory.join(MEMORY_FILE), manifest.memory_bytes, blake3)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::error::Error;

    fn memory_file(directory: &Path) -> std::path::PathBuf {
        let path = directory.join(MEMORY_FILE);
        let file = File::create(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"kernel", 3 << 20).unwrap();
        file.write_all_at(b"app", (40 << 20) + 17).unwrap();
        path
    }

    #[test]
    fn a_finished_base_is_read_only_and_any_changed_byte_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = memory_file(directory.path());
        let info = finish_base(directory.path(), Platform::for_tests(), b"state", &[]).unwrap();
        assert!(info.memory_bytes < 1 << 20, "only touched pages count: {info:?}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
        verify(directory.path()).unwrap();

        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"K", 3 << 20).unwrap();
        let error = verify(directory.path()).unwrap_err();
        assert!(matches!(&error, Error::Damaged { path, .. } if path.ends_with(MEMORY_FILE)), "{error}");
    }
}
