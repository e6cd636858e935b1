//! Base snapshots: the digest of a `memory` file, and the last steps that make one.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::manifest::{DeviceState, Manifest, MemoryLayout, Platform};
use super::{DEVICE_STATE_FILE, LayerStack, MEMORY_FILE, damaged, file_error, settle};
use crate::error::Result;
use crate::vm::SnapshotInfo;

/// Unit of the digest: large enough for BLAKE3 to use all of the CPU's lanes, small enough to skip holes.
const BLOCK_BYTES: u64 = 1024 * 1024;

/// Checksum of a sparse file: BLAKE3 over the number (64 bits, little-endian) and the BLAKE3 of each block of 1 MiB
/// that is not all zero. It depends on the content only, not on where a file system keeps holes.
pub fn memory_digest(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(|source| file_error("open", path, source))?;
    let size = file.metadata().map_err(|source| file_error("stat", path, source))?.len();
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BLOCK_BYTES as usize];
    let mut offset = 0;
    while let Some(data) = next_data(&file, path, offset)? {
        let block = data / BLOCK_BYTES;
        let start = block * BLOCK_BYTES;
        let bytes = &mut buffer[..BLOCK_BYTES.min(size - start) as usize];
        file.read_exact_at(bytes, start).map_err(|source| file_error("read", path, source))?;
        if bytes.iter().any(|byte| *byte != 0) {
            hasher.update(&block.to_le_bytes());
            hasher.update(blake3::hash(bytes).as_bytes());
        }
        offset = start + BLOCK_BYTES;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Position of the first byte at or after `offset` that is not in a hole.
fn next_data(file: &File, path: &Path, offset: u64) -> Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(position) => Ok(Some(position)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(file_error("seek", path, error.into())),
    }
}

/// Turns the memory file of a stopped VM, and its device state, into a snapshot.
pub(crate) fn finish_base(directory: &Path, platform: Platform, device_state: &[u8]) -> Result<SnapshotInfo> {
    let path = directory.join(MEMORY_FILE);
    let file = File::open(&path).map_err(|source| file_error("open", &path, source))?;
    settle(&file, &path)?;
    // Read-only for everybody: from now on VMMs of other users map it.
    file.set_permissions(Permissions::from_mode(0o444))
        .map_err(|source| file_error("chmod", &path, source))?;
    std::os::unix::fs::fchown(&file, Some(0), Some(0))
        .map_err(|source| file_error("chown", &path, source))?;
    let blake3 = memory_digest(&path)?;
    let metadata = file.metadata().map_err(|source| file_error("stat", &path, source))?;
    let allocated_bytes = metadata.blocks() * 512;

    let device_state = DeviceState::write(directory, DEVICE_STATE_FILE, device_state)?;
    let info = SnapshotInfo { memory_bytes: allocated_bytes, device_state_bytes: device_state.bytes };
    let memory = MemoryLayout::Base { allocated_bytes, blake3 };
    Manifest::new(platform, metadata.len(), memory, device_state).commit(directory)?;
    Ok(info)
}

/// Checks every byte of a snapshot against its checksums. Too slow for each launch of a base (it reads all of its
/// memory); meant for `doctor`, for a first use after a start, and for tests.
pub fn verify(directory: &Path) -> Result<()> {
    let manifest = Manifest::read_existing(directory)?;
    manifest.device_state.open(directory)?;
    let MemoryLayout::Base { blake3, .. } = &manifest.memory else {
        return LayerStack::open(directory, &manifest)?.into_restoration().verify();
    };
    let path = directory.join(MEMORY_FILE);
    let size = fs::metadata(&path).map_err(|source| file_error("stat", &path, source))?.len();
    if size != manifest.memory_bytes {
        return Err(damaged(&path, format!("it has {size} bytes instead of {}", manifest.memory_bytes)));
    }
    if memory_digest(&path)? != *blake3 {
        return Err(damaged(&path, "its checksum is not the one in the manifest"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
    fn the_digest_depends_on_content_and_place_but_not_on_holes() {
        let directory = tempfile::tempdir().unwrap();
        let path = memory_file(directory.path());
        let digest = memory_digest(&path).unwrap();

        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0; 4096], 20 << 20).unwrap();
        assert_eq!(memory_digest(&path).unwrap(), digest, "zeroes written into a hole");
        file.write_all_at(b"b", (40 << 20) + 17).unwrap();
        assert_ne!(memory_digest(&path).unwrap(), digest, "another byte");
        file.write_all_at(b"a", (40 << 20) + 17).unwrap();
        assert_eq!(memory_digest(&path).unwrap(), digest);
    }

    #[test]
    fn a_finished_base_is_read_only_and_any_changed_byte_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = memory_file(directory.path());
        let info = finish_base(directory.path(), Platform::for_tests(), b"state").unwrap();
        assert!(info.memory_bytes < 1 << 20, "only touched pages count: {info:?}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
        verify(directory.path()).unwrap();

        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"K", 3 << 20).unwrap();
        let error = verify(directory.path()).unwrap_err();
        assert!(matches!(&error, Error::Damaged { path, .. } if path.ends_with(MEMORY_FILE)), "{error}");
    }
}
