//! Empty qcow2 overlays, written without `qemu-img` (which takes 20 times as long to start
//! as this takes to run).
//!
//! The format is version 3 of QEMU's `qcow2.txt`. The image names no backing file: the
//! VMM is told on its command line which base an overlay belongs to, so that neither file can point
//! a VMM at another one.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::file_error;
use crate::error::Result;

const CLUSTER_BITS: u32 = 16;
const CLUSTER_BYTES: u64 = 1 << CLUSTER_BITS;
/// An entry of the L1 table covers a cluster full of L2 entries of 8 bytes, each for one cluster.
const BYTES_PER_L1_ENTRY: u64 = CLUSTER_BYTES / 8 * CLUSTER_BYTES;
/// Header of version 3 without optional fields.
const HEADER_BYTES: u32 = 104;
/// Refcounts of 2^4 bits.
const REFCOUNT_ORDER: u32 = 4;

// The clusters of an empty image, in this order.
const REFCOUNT_TABLE: u64 = CLUSTER_BYTES;
const REFCOUNT_BLOCK: u64 = 2 * CLUSTER_BYTES;
const L1_TABLE: u64 = 3 * CLUSTER_BYTES;
const CLUSTERS_IN_USE: u64 = 4;

/// Makes an empty overlay with the size of a raw base. The overlay must not exist yet.
pub fn create_overlay(base: &Path, overlay: &Path) -> Result<()> {
    let virtual_bytes = fs::metadata(base).map_err(|source| file_error("stat", base, source))?.len();
    let file = File::create_new(overlay).map_err(|source| file_error("create", overlay, source))?;
    let write = || {
        file.set_len(CLUSTERS_IN_USE * CLUSTER_BYTES)?;
        file.write_all_at(&header(virtual_bytes), 0)?;
        file.write_all_at(&REFCOUNT_BLOCK.to_be_bytes(), REFCOUNT_TABLE)?;
        // Each cluster of the image is used once; the L1 table itself is all zero, as
        // nothing is allocated.
        file.write_all_at(&[0, 1].repeat(CLUSTERS_IN_USE as usize), REFCOUNT_BLOCK)
    };
    write().map_err(|source| file_error("write", overlay, source))
}

/// The header: 32-bit words, big-endian; a 64-bit field is two of them.
fn header(virtual_bytes: u64) -> Vec<u8> {
    let l1_entries = virtual_bytes.div_ceil(BYTES_PER_L1_ENTRY);
    debug_assert!(l1_entries * 8 <= CLUSTER_BYTES, "disks of less than 4 TiB");
    let words: [&[u32]; 12] = [
        &[u32::from_be_bytes(*b"QFI\xfb"), 3],
        // No backing file: offset (64 bits) and length of its name.
        &[0, 0, 0],
        &[CLUSTER_BITS],
        &high_low(virtual_bytes),
        // Not encrypted.
        &[0],
        &[l1_entries as u32],
        &high_low(L1_TABLE),
        &high_low(REFCOUNT_TABLE),
        // The refcount table has one cluster. No internal snapshots: number and 64-bit offset.
        &[1, 0, 0, 0],
        // Incompatible, compatible and autoclear features, 64 bits each.
        &[0; 6],
        &[REFCOUNT_ORDER, HEADER_BYTES],
        // The end of the list of header extensions: type 0, length 0.
        &[0, 0],
    ];
    words.concat().into_iter().flat_map(u32::to_be_bytes).collect()
}

fn high_low(value: u64) -> [u32; 2] {
    [(value >> 32) as u32, value as u32]
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::error::Error;

    fn overlay_of(virtual_bytes: u64) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let (base, overlay) = (directory.path().join("base"), directory.path().join("overlay"));
        File::create(&base).unwrap().set_len(virtual_bytes).unwrap();
        create_overlay(&base, &overlay).unwrap();
        (directory, overlay)
    }

    #[test]
    fn the_header_has_the_fields_of_the_format() {
        let header = header(1 << 30);
        assert_eq!(header.len(), 112);
        assert_eq!(&header[..8], b"QFI\xfb\0\0\0\x03");
        assert_eq!(header[24..32], (1u64 << 30).to_be_bytes(), "size");
        assert_eq!(header[36..40], 2u32.to_be_bytes(), "L1 entries of 512 MiB");
        assert_eq!(header[100..104], HEADER_BYTES.to_be_bytes());
    }

    #[test]
    fn qemu_img_finds_no_fault_in_it() {
        for virtual_bytes in [1 << 20, (4 << 30) + 512, 32 << 30] {
            let (_directory, overlay) = overlay_of(virtual_bytes);
            let check = match Command::new("qemu-img").arg("check").arg(&overlay).output() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    eprintln!("skipped: qemu-img is not installed");
                    return;
                }
                other => other.unwrap(),
            };
            assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
            let info =
                Command::new("qemu-img").args(["info", "--output=json"]).arg(&overlay).output().unwrap();
            let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
            assert_eq!(info["virtual-size"], virtual_bytes);
        }
    }

    #[test]
    fn it_is_quick_and_small() {
        let started = Instant::now();
        let (_directory, overlay) = overlay_of(32 << 30);
        assert!(started.elapsed() < Duration::from_millis(50), "{:?}", started.elapsed());
        let allocated = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&overlay).unwrap()) * 512;
        assert!(allocated <= 16 * 1024, "{allocated}");
    }

    #[test]
    fn an_existing_file_is_not_overwritten() {
        let (directory, overlay) = overlay_of(1 << 20);
        let error = create_overlay(&directory.path().join("base"), &overlay).unwrap_err();
        assert!(matches!(error, Error::File { action: "create", .. }), "{error}");
    }
}
