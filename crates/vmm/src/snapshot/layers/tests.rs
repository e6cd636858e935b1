use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use super::*;
use crate::error::Error;
use crate::snapshot::{Platform, compact, verify};

/// Guest RAM as the tests see it: page number → content.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Pages(BTreeMap<u64, Vec<u8>>);

/// A sink that collects pages.
#[derive(Default)]
struct Collect(Mutex<BTreeMap<u64, Vec<u8>>>);

impl Pages {
    fn fill(&mut self, pages: impl IntoIterator<Item = u64>, seed: u8) {
        for page in pages {
            let mut content = vec![seed; rustix::param::page_size()];
            content[..8].copy_from_slice(&page.to_le_bytes());
            self.0.insert(page, content);
        }
    }

    fn zero(&mut self, page: u64) {
        self.0.insert(page, vec![0; rustix::param::page_size()]);
    }

    fn numbers(&self) -> Vec<u64> {
        self.0.keys().copied().collect()
    }
}

impl PageSource for Pages {
    fn read_pages(&self, pages: &[u64], buffer: &mut [u8]) -> Result<()> {
        for (page, bytes) in pages.iter().zip(buffer.chunks_mut(rustix::param::page_size())) {
            bytes.copy_from_slice(&self.0[page]);
        }
        Ok(())
    }
}

impl PageSink for Collect {
    fn write_pages(&self, pages: &[u64], buffer: &[u8]) -> Result<()> {
        let mut collected = self.0.lock().unwrap();
        for (page, bytes) in pages.iter().zip(buffer.chunks(rustix::param::page_size())) {
            assert!(collected.insert(*page, bytes.to_vec()).is_none(), "page {page} came twice");
        }
        Ok(())
    }
}

fn base_manifest() -> Manifest {
    let device_state = DeviceState { file: "device-state".into(), bytes: 1, blake3: String::new() };
    let memory = MemoryLayout::Base { allocated_bytes: 0, blake3: "base".into() };
    Manifest::new(Platform::for_tests(), 1 << 30, memory, device_state, Vec::new())
}

/// What the driver does, without a VMM.
fn snapshot(directory: &Path, pages: &Pages) -> Result<SnapshotInfo> {
    let snapshot = LayerSnapshot::begin(directory)?;
    let name = snapshot.device_state_name();
    let attempt = || {
        let layer = snapshot.open_layers()?.write_layer(&snapshot.layer_name(), &pages.numbers(), pages)?;
        Ok((layer, DeviceState::write(directory, &name, b"device state")?))
    };
    match attempt() {
        Ok((layer, device_state)) => {
            let layers = snapshot.layers_with(layer);
            snapshot.commit(&base_manifest(), layers, device_state, Vec::new())
        }
        Err(error) => {
            snapshot.discard();
            Err(error)
        }
    }
}

fn restored(directory: &Path) -> Result<Pages> {
    let manifest = Manifest::read_existing(directory)?;
    let sink = Collect::default();
    LayerStack::open(directory, &manifest)?.into_restoration().write_into(&sink)?;
    Ok(Pages(sink.0.into_inner().unwrap()))
}

fn disk_bytes(directory: &Path) -> u64 {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| std::os::unix::fs::MetadataExt::blocks(&entry.unwrap().metadata().unwrap()) * 512)
        .sum()
}

#[test]
fn pages_come_back_over_generations_and_only_changes_are_written() {
    let page_size = rustix::param::page_size() as u64;
    let directory = tempfile::tempdir().unwrap();
    let mut pages = Pages::default();
    pages.fill(3..3003, 1);
    pages.zero(5000);
    let info = snapshot(directory.path(), &pages).unwrap();
    assert_eq!(info.memory_bytes, 3000 * page_size, "zero pages take no space");
    assert_eq!(restored(directory.path()).unwrap(), pages);

    pages.fill(100..110, 2);
    pages.zero(50);
    pages.fill([5000], 2);
    let info = snapshot(directory.path(), &pages).unwrap();
    assert_eq!(info.memory_bytes, 11 * page_size, "unchanged pages are not written again");
    assert_eq!(restored(directory.path()).unwrap(), pages);

    let info = snapshot(directory.path(), &pages).unwrap();
    assert_eq!(info.memory_bytes, 0);
    assert_eq!(restored(directory.path()).unwrap(), pages);
    verify(directory.path()).unwrap();
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let mut pages = Pages::default();
    pages.fill(0..40, 7);
    snapshot(directory.path(), &pages).unwrap();
    let path = directory.path().join("memory.0001.layer");
    let length = fs::metadata(&path).unwrap().len();
    let page_size = rustix::param::page_size() as u64;
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    for offset in
        [0, 9, 17, 21, page_size, 20 * page_size + 5, 41 * page_size - 1, 41 * page_size, length - 1]
    {
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
        let error = restored(directory.path()).unwrap_err();
        assert!(matches!(&error, Error::Damaged { path: found, .. } if *found == path), "{offset}: {error}");
        file.write_all_at(&byte, offset).unwrap();
    }
    file.set_len(length - 1).unwrap();
    let error = restored(directory.path()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "shortened: {error}");
}

#[test]
fn layers_are_merged_when_too_much_is_superseded() {
    let page_size = rustix::param::page_size() as u64;
    let directory = tempfile::tempdir().unwrap();
    let mut pages = Pages::default();
    for seed in 1..=3 {
        pages.fill(0..800, seed);
        snapshot(directory.path(), &pages).unwrap();
        assert_eq!(compact(directory.path()).unwrap(), seed == 3, "4 MiB are tolerated");
    }
    assert_eq!(restored(directory.path()).unwrap(), pages);
    assert!(disk_bytes(directory.path()) < 900 * page_size, "{}", disk_bytes(directory.path()));
    assert!(!compact(directory.path()).unwrap(), "nothing is left to do");

    pages.fill(0..1, 9);
    snapshot(directory.path(), &pages).unwrap();
    assert_eq!(restored(directory.path()).unwrap(), pages, "a layer on top of a merged one");
}

#[test]
fn files_of_an_unfinished_snapshot_do_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let mut pages = Pages::default();
    pages.fill(0..4, 1);
    snapshot(directory.path(), &pages).unwrap();
    fs::write(directory.path().join("memory.0002.layer"), "half").unwrap();
    fs::write(directory.path().join("device-state.0002"), "half").unwrap();
    assert_eq!(restored(directory.path()).unwrap(), pages);
    pages.fill(0..2, 2);
    snapshot(directory.path(), &pages).unwrap();
    assert_eq!(restored(directory.path()).unwrap(), pages);
}

#[test]
fn a_full_disk_leaves_the_older_snapshot() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", directory.path(), "tmpfs", flags, Some(c"size=1m")).unwrap();
    let mut pages = Pages::default();
    pages.fill(0..20, 1);
    snapshot(directory.path(), &pages).unwrap();
    let before = pages.clone();
    pages.fill(0..2000, 2);
    let error = snapshot(directory.path(), &pages).unwrap_err();
    let found = restored(directory.path());
    let files = fs::read_dir(directory.path()).unwrap().count();
    rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    assert_eq!(found.unwrap(), before);
    assert_eq!(files, 3, "the failed attempt is cleaned up");
}
