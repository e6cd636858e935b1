//! How long a file a VMM may make: `RLIMIT_FSIZE` (setrlimit(2)) of its process.
//!
//! QEMU holds its files open for writing, and one that a guest has broken out of could fill the
//! disk with any of them. The limit is one for all files of a process, so it is that of the file
//! that may become longest. What is beyond it fails with EFBIG, which the guest sees as an I/O
//! error of its disk: SIGXFSZ is ignored, so that it does not cost the guest its life.

use std::fs::File;
use std::io;

use super::launch::Launch;
use super::snapshots::DEVICE_STATE_MAX;

/// Of a qcow2 file, beside its clusters of data: tables take 1/6500 of them, and there is some room
/// for what is not thought of.
const OVERLAY_BESIDE: u64 = 64 << 20;

/// A file that the VMM writes to, by the file that says how long it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Written<'a> {
    /// A raw disk, written in place.
    Raw(&'a File),
    /// An overlay on this disk.
    OverlayOn(&'a File),
}

/// The limit of a VMM with these disks.
pub(super) fn largest_file<'a>(
    launch: &Launch,
    memory_mib: u32,
    disks: impl Iterator<Item = Written<'a>>,
) -> io::Result<u64> {
    // RAM in a file is written by mapping it, which no limit stops, but QEMU may give the file
    // its length once more.
    let memory = match launch {
        Launch::Boot { .. } => u64::from(memory_mib) << 20,
        Launch::BootAnonymous | Launch::Restore { .. } | Launch::RestoreLayers { .. } => 0,
    };
    let length = |disk| -> io::Result<u64> {
        match disk {
            Written::Raw(file) => Ok(file.metadata()?.len()),
            Written::OverlayOn(base) => Ok(overlay_bytes(base.metadata()?.len())),
        }
    };
    disks
        .map(length)
        .chain([Ok(memory), Ok(DEVICE_STATE_MAX)])
        .try_fold(0, |most, length| Ok(most.max(length?)))
}

/// Most bytes of a qcow2 overlay on a disk of this length. A guest that discards and writes leaves
/// gaps that are too short for later writes of several clusters, so that the file becomes longer
/// than the disk, if not larger: twice as long is allowed.
fn overlay_bytes(virtual_bytes: u64) -> u64 {
    virtual_bytes.saturating_mul(2).saturating_add(OVERLAY_BESIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(length: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(length).unwrap();
        file
    }

    #[test]
    fn the_longest_of_the_files_that_are_written_counts() {
        const GIB: u64 = 1 << 30;
        let (small, large, memory) = (file(GIB), file(32 * GIB), || file(0));
        let restore = Launch::Restore {
            memory: memory(),
            clone: super::super::launch::CloneOf {
                base_directory: "/base".into(),
                platform: crate::snapshot::Platform::for_tests(),
            },
        };
        let most = |launch: &Launch, disks: &[Written<'_>]| {
            largest_file(launch, 8192, disks.iter().copied()).unwrap()
        };
        assert_eq!(most(&Launch::BootAnonymous, &[]), DEVICE_STATE_MAX, "at least what is asked of any");
        assert_eq!(most(&restore, &[]), DEVICE_STATE_MAX, "RAM of a clone is nobody's file");
        assert_eq!(most(&Launch::Boot { memory: memory() }, &[Written::Raw(&small)]), 8 * GIB);
        let boot = Launch::Boot { memory: memory() };
        assert_eq!(most(&boot, &[Written::Raw(&small), Written::Raw(&large)]), 32 * GIB);
        let overlay = most(&restore, &[Written::OverlayOn(&large)]);
        assert!((64 * GIB..65 * GIB).contains(&overlay), "{overlay}");
    }

    #[test]
    fn an_overlay_has_room_for_all_of_its_disk_and_its_tables() {
        for virtual_bytes in [1, 1 << 20, 2 << 30, 32 << 30, 1 << 41] {
            // Each cluster of 64 KiB has 8 bytes of an L2 table and 2 of a refcount block,
            // both in whole clusters.
            let clusters = u64::div_ceil(virtual_bytes, 1 << 16);
            let tables = clusters.div_ceil(1 << 13) + clusters.div_ceil(1 << 15) + 8;
            assert!(overlay_bytes(virtual_bytes) >= (clusters + tables) << 16, "{virtual_bytes}");
        }
    }
}
