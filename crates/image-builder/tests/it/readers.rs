//! What is good is read as if there were no other process.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use hearth_confined::Confinement;
use hearth_confined::uid::UidPool;
use hearth_guest_protocol::Inspection;
use hearth_image_builder::{ArchiveLimits, Readers, SnapshotQuestion};
use zip::write::SimpleFileOptions;

/// Each topic has its own, as user ids of tests in other processes may not meet.
pub(crate) fn readers(first_uid: u32) -> Option<Readers> {
    with_program(Path::new(env!("CARGO_BIN_EXE_hearth-image-builder-test")), first_uid)
}

pub(crate) fn with_program(program: &Path, first_uid: u32) -> Option<Readers> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: confined processes need root");
        return None;
    }
    Some(Readers::new(Confinement::with_program(program.to_owned(), UidPool::new(first_uid))))
}

pub(crate) fn question() -> SnapshotQuestion {
    SnapshotQuestion {
        inspection: Inspection { complete: true, ..Inspection::default() },
        environment: BTreeMap::new(),
    }
}

/// A root disk with one file, made by mke2fs; and a memory of zeroes.
pub(crate) fn snapshot(directory: &Path, file: &str, text: &str) -> (PathBuf, PathBuf) {
    let (root, disk, memory) = (directory.join("root"), directory.join("disk"), directory.join("memory"));
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    let made = Command::new("mke2fs")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .args(["-q", "-t", "ext4", "-d"])
        .args([&root, &disk])
        .arg("16M")
        .status();
    assert!(made.unwrap().success());
    fs::write(&memory, vec![0; 1 << 20]).unwrap();
    (disk, memory)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_becomes_a_tar() {
    let Some(readers) = readers(0x4ffe_0000) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (zip, tar) = (directory.path().join("zip"), directory.path().join("tar"));
    let mut writer = zip::ZipWriter::new(fs::File::create(&zip).unwrap());
    for (name, text) in [("Dockerfile", "FROM scratch\n"), ("app/main.py", "print()\n")] {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap();
    let context = readers.to_tar(&zip, &tar, &ArchiveLimits::default()).await.unwrap();
    assert_eq!(context.dockerfile, "FROM scratch\n");
    let mut archive = tar::Archive::new(fs::File::open(&tar).unwrap());
    let names: Vec<_> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert_eq!(names, [Path::new("Dockerfile"), Path::new("app/main.py")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_searched() {
    let Some(readers) = readers(0x4ffd_0000) else { return };
    let directory = tempfile::tempdir().unwrap();
    let token = format!("ghp{}{}", "_", "a1B2".repeat(9));
    let (disk, memory) = snapshot(directory.path(), "srv/token", &token);
    let report = readers.report(&question(), &disk, &memory).await.unwrap();
    assert_eq!((report.findings.len(), report.search.files), (1, 1), "{report:?}");
    assert_eq!(report.search.left_out, Vec::<String>::new());
}
