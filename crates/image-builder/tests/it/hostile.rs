//! What is hostile ends a reader at most: a build fails with a sentence.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use hearth_image_builder::{ArchiveLimits, FailureCode};

use crate::readers::{question, readers, snapshot, with_program};

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_dies_is_a_failed_build_with_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, memory) = snapshot(directory.path(), "a", "a");
    // Stands in for a reader that something has taken over or broken. Like that one
    // it makes no process.
    for (script, said) in [
        ("echo one; exit 0", "it gave no answer"),
        ("echo two >&2; exit 3", "failed: two"),
        ("kill -SEGV $$; exit 4", "status 4"),
        ("exec head -c 100000000 /dev/zero", "answered more than"),
    ] {
        let program = directory.path().join("reader");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let Some(readers) = with_program(&program, 0x4ffc_0000) else { return };
        let limits = ArchiveLimits::default();
        let failure = readers.to_tar(&disk, &directory.path().join("tar"), &limits).await.unwrap_err();
        assert_eq!(failure.code, FailureCode::ArchiveInvalid);
        assert!(failure.message.starts_with("The zip archive could not be read: the process that reads it"));
        assert!(failure.message.contains(said) && failure.message.ends_with('.'), "{failure}");
        let failure = readers.report(&question(), &disk, &memory).await.unwrap_err();
        assert_eq!(failure.code, FailureCode::ContainerBuildFailed);
        assert!(failure.message.contains(said), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_that_is_nothing_but_entries_is_refused() {
    let Some(readers) = readers(0x4ffb_0000) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (zip, tar) = (directory.path().join("zip"), directory.path().join("tar"));
    // A claim of 2^40 entries, in a file of holes that is long enough for a reader to believe it.
    let file = fs::File::create(&zip).unwrap();
    let (entries, start) = ((1_u64 << 40).to_le_bytes(), 0_u64.to_le_bytes());
    let end = 60_u64 << 20;
    let record = [
        b"PK\x06\x06".as_slice(),
        &44_u64.to_le_bytes(),
        &[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &entries,
        &entries,
        &start,
        &start,
        b"PK\x06\x07\0\0\0\0",
        &end.to_le_bytes(),
        &1_u32.to_le_bytes(),
        b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0",
    ];
    file.write_all_at(&record.concat(), end).unwrap();
    let failure = readers.to_tar(&zip, &tar, &ArchiveLimits::default()).await.unwrap_err();
    assert!(failure.message.contains("1099511627776 entries; at most 100000"), "{failure}");
}

/// Each byte of the superblock and of the block groups behind it, damaged: the reader may die of
/// it, the build may not hang and the server may not notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_with_a_damaged_superblock_ends_nothing_but_its_reader() {
    let Some(readers) = readers(0x4ffa_0000) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (disk, memory) = snapshot(directory.path(), "srv/a", "a");
    let good = fs::read(&disk).unwrap();
    for field in [0x4, 0x18, 0x20, 0x28, 0x58, 0x60, 0x64, 0xe0, 0xfe, 0x150] {
        damage(&disk, &good, 1024 + field);
        let report = readers.report(&question(), &disk, &memory).await.unwrap();
        assert_eq!(report.search.left_out.len(), 1, "{field:#x}: {:?}", report.search);
    }
    fs::write(&disk, &good[..5000]).unwrap();
    let report = readers.report(&question(), &disk, &memory).await.unwrap();
    assert!(report.search.left_out[0].contains("could not be read"), "{:?}", report.search);
}

fn damage(disk: &Path, good: &[u8], at: usize) {
    fs::write(disk, good).unwrap();
    let file = fs::File::options().write(true).open(disk).unwrap();
    file.write_all_at(&[0xff, 0xff], at as u64).unwrap();
}
