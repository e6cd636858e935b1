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
fn snapshot(directory: &Path, previous: Option<&Path>, pages: &Pages) -> Result<SnapshotInfo> {
    let snapshot = LayerSnapshot::begin(directory, previous)?;
    let (layer, name) = (snapshot.layer_name(), snapshot.device_state_name());
    let layer = snapshot.open_layers()?.write_layer(directory, &layer, &pages.numbers(), pages)?;
    let device_state = DeviceState::write(directory, &name, b"device state")?;
    snapshot.commit(&base_manifest(), layer, device_state, Vec::new())
}

/// Snapshots of one microVM, each in a directory of its own; the one before goes.
struct Snapshots(tempfile::TempDir, u32);

impl Snapshots {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), 0)
    }

    fn last(&self) -> PathBuf {
        self.0.path().join(self.1.to_string())
    }

    fn next(&self) -> PathBuf {
        let directory = self.0.path().join((self.1 + 1).to_string());
        fs::create_dir(&directory).unwrap();
        directory
    }

    fn replaced(&mut self) {
        let _ = fs::remove_dir_all(self.last());
        self.1 += 1;
    }

    fn take(&mut self, pages: &Pages) -> SnapshotInfo {
        let (next, last) = (self.next(), self.last());
        let info = snapshot(&next, (self.1 > 0).then_some(&*last), pages).unwrap();
        self.replaced();
        info
    }

    fn compact(&mut self) -> bool {
        let (next, last) = (self.next(), self.last());
        let compacted = compact(&last, &next).unwrap();
        if compacted {
            self.replaced();
        } else {
            assert_eq!(fs::read_dir(&next).unwrap().count(), 0);
            fs::remove_dir(&next).unwrap();
        }
        compacted
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
    let mut own = Snapshots::new();
    let mut pages = Pages::default();
    pages.fill(3..3003, 1);
    pages.zero(5000);
    let info = own.take(&pages);
    assert_eq!(info.memory_bytes, 3000 * page_size, "zero pages take no space");
    assert_eq!(restored(&own.last()).unwrap(), pages);

    pages.fill(100..110, 2);
    pages.zero(50);
    pages.fill([5000], 2);
    let info = own.take(&pages);
    assert_eq!(info.memory_bytes, 11 * page_size, "unchanged pages are not written again");
    assert_eq!(restored(&own.last()).unwrap(), pages);

    let info = own.take(&pages);
    assert_eq!(info.memory_bytes, 0);
    assert_eq!(restored(&own.last()).unwrap(), pages);
    verify(&own.last()).unwrap();
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let mut pages = Pages::default();
    pages.fill(0..40, 7);
    snapshot(directory.path(), None, &pages).unwrap();
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
    let mut own = Snapshots::new();
    let mut pages = Pages::default();
    for seed in 1..=3 {
        pages.fill(0..800, seed);
        own.take(&pages);
        assert_eq!(own.compact(), seed == 3, "4 MiB are tolerated");
    }
    assert_eq!(restored(&own.last()).unwrap(), pages);
    assert!(disk_bytes(&own.last()) < 900 * page_size, "{}", disk_bytes(&own.last()));
    assert_eq!(Manifest::read_existing(&own.last()).unwrap().generation(), 3, "it is the same one");
    assert!(!own.compact(), "nothing is left to do");

    pages.fill(0..1, 9);
    own.take(&pages);
    assert_eq!(restored(&own.last()).unwrap(), pages, "a layer on top of a merged one");
}

#[test]
fn a_layer_is_told_apart_by_all_that_it_holds() {
    let layer_of = |pages: &Pages| {
        let mut own = Snapshots::new();
        own.take(pages);
        Manifest::read_existing(&own.last()).unwrap().layer_files()[0].blake3.clone().unwrap()
    };
    let mut pages = Pages::default();
    pages.fill(0..2000, 1);
    let first = layer_of(&pages);
    pages.fill(1999..2000, 2);
    let other = layer_of(&pages);
    pages.zero(3000);
    assert!(first != other && other != layer_of(&pages));
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
    let [first, second] = ["1", "2"].map(|name| directory.path().join(name));
    fs::create_dir(&first).unwrap();
    fs::create_dir(&second).unwrap();
    snapshot(&first, None, &pages).unwrap();
    let before = pages.clone();
    pages.fill(0..2000, 2);
    let error = snapshot(&second, Some(&first), &pages).unwrap_err();
    let found = restored(&first);
    let files = fs::read_dir(&first).unwrap().count();
    rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    assert_eq!(found.unwrap(), before);
    assert_eq!(files, 3, "nothing was added to it");
}
