//! One layer file: pages of guest RAM with their hashes.
//!
//! ```text
//! 0                header, 64 bytes, in a block of one page:
//!                    "HRTHLAYR", version u32, page size u32, table entries u32,
//!                    data pages u32, zeroes
//! 1 × page size    data pages, in the order of their slots 0, 1, …
//! … after them     table, 24 bytes an entry: page number u32, slot u32 (all ones: the page is all
//!                    zero), XXH3 of 128 bits
//! ```
//!
//! Numbers are little-endian. The BLAKE3 of the table stands in the manifest, the hash of each page
//! in the table, so that any flipped bit is found. Pages are aligned to pages so that the file
//! system can share or free them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

use super::digest::is_zero;
use super::manifest::LayerFile;
use super::{damaged, file_error, settle};
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"HRTHLAYR";
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 24;
const ZERO_PAGE_SLOT: u32 = u32::MAX;

/// Pages moved by one system call and hashed by one thread: 1 MiB of 4 KiB pages.
const BATCH_PAGES: usize = 256;
/// More threads than this wait for the memory bus rather than for the CPU.
const MAX_THREADS: usize = 4;

/// Where pages are read from: a VMM process, or other layers.
pub trait PageSource: Sync {
    /// Reads the pages with these numbers into `buffer`, which is exactly as long as they are.
    fn read_pages(&self, pages: &[u64], buffer: &mut [u8]) -> Result<()>;
}

/// Where pages are written to.
pub trait PageSink: Sync {
    /// Writes the pages with these numbers from `buffer`, which is exactly as long as they are.
    fn write_pages(&self, pages: &[u64], buffer: &[u8]) -> Result<()>;
}

/// XXH3 of 128 bits: pages are hashed while a caller waits. A guest that makes two pages with the
/// same hash, which is not beyond it, loses a change to its own memory.
pub(super) type PageHash = [u8; 16];

/// A line of a layer's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Page number.
    pub(super) page: u32,
    /// Place in the file; `None` for a page that is all zero.
    pub(super) slot: Option<u32>,
    /// Hash of the content.
    pub(super) hash: PageHash,
}

/// An open layer.
#[derive(Debug)]
pub(super) struct Layer {
    path: PathBuf,
    file: File,
    page_size: usize,
    /// Its table.
    pub(super) entries: Vec<Entry>,
}

pub(super) fn page_hash(page: &[u8]) -> PageHash {
    twox_hash::XxHash3_128::oneshot(page).to_le_bytes()
}

/// Runs `work` on the batches of `items` with several threads; the first error ends it. Each call
/// gets room for the pages of its batch, with whatever the thread's last call left there: memory
/// that is used again stays in the CPU's cache.
pub(super) fn in_batches<T: Sync>(
    items: &[T],
    page_size: usize,
    work: impl Fn(&[T], &mut [u8]) -> Result<()> + Sync,
) -> Result<()> {
    let batches: Vec<&[T]> = items.chunks(BATCH_PAGES).collect();
    let next = AtomicUsize::new(0);
    let run = || {
        let mut buffer = vec![0; BATCH_PAGES.min(items.len()) * page_size];
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(batch, &mut buffer[..batch.len() * page_size]) {
                next.store(batches.len(), Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(batches.len());
    thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mut result = run();
        for worker in workers {
            result = result.and(worker.join().expect("invariant: page workers do not panic"));
        }
        result
    })
}

/// Writes the layer `directory/name` with those of `pages` whose hash is not `known` already.
/// `pages` has no page twice. On an error the file may be left half-written; no manifest names it.
pub(super) fn write_layer(
    directory: &Path,
    name: &str,
    page_size: usize,
    pages: &[u64],
    source: &dyn PageSource,
    known: &(dyn Fn(u64) -> Option<PageHash> + Sync),
) -> Result<LayerFile> {
    let path = directory.join(name);
    let file = File::create(&path).map_err(|error| file_error("create", &path, error))?;
    let next_slot = AtomicU32::new(0);
    let written = std::sync::Mutex::new((Vec::new(), BTreeMap::new()));
    in_batches(pages, page_size, |batch, buffer| {
        source.read_pages(batch, buffer)?;
        let mut changed = keep_changed(batch, buffer, page_size, known);
        let data_pages = changed.iter().filter(|entry| entry.slot.is_some()).count();
        let first_slot = next_slot.fetch_add(data_pages as u32, Ordering::Relaxed);
        for slot in changed.iter_mut().filter_map(|entry| entry.slot.as_mut()) {
            *slot += first_slot;
        }
        let data = &buffer[..data_pages * page_size];
        file.write_all_at(data, data_offset(first_slot, page_size))
            .map_err(|error| file_error("write", &path, error))?;
        let digest = (data_pages > 0).then(|| (first_slot, blake3::hash(data)));
        let mut written = written.lock().expect("invariant: page workers do not panic");
        written.0.extend(changed);
        written.1.extend(digest);
        Ok(())
    })?;
    let (entries, digests) = written.into_inner().expect("invariant: page workers do not panic");
    let data_pages = next_slot.into_inner();
    let table = encode_table(&entries);
    let write = || {
        file.set_len(data_offset(data_pages, page_size))?;
        file.write_all_at(&table, data_offset(data_pages, page_size))?;
        file.write_all_at(&encode_header(page_size, entries.len(), data_pages), 0)
    };
    write().map_err(|error| file_error("write", &path, error))?;
    settle(&file, &path)?;
    let table_blake3 = blake3::hash(&table);
    let mut content = blake3::Hasher::new();
    for digest in digests.values().chain([&table_blake3]) {
        content.update(digest.as_bytes());
    }
    let [table_blake3, blake3] = [table_blake3, content.finalize()].map(|hash| hash.to_hex().to_string());
    Ok(LayerFile { file: name.to_owned(), data_pages, table_blake3, blake3: Some(blake3) })
}

/// Moves the pages that must be written to the front of the buffer; slots of the
/// result count from 0.
fn keep_changed(
    pages: &[u64],
    buffer: &mut [u8],
    page_size: usize,
    known: &(dyn Fn(u64) -> Option<PageHash> + Sync),
) -> Vec<Entry> {
    let mut changed = Vec::with_capacity(pages.len());
    let mut kept = 0;
    for (index, &page) in pages.iter().enumerate() {
        let content = &buffer[index * page_size..][..page_size];
        let hash = page_hash(content);
        if known(page) == Some(hash) {
            continue;
        }
        let is_zero = is_zero(content);
        let slot = (!is_zero).then_some(kept as u32);
        changed.push(Entry { page: page as u32, slot, hash });
        if !is_zero {
            buffer.copy_within(index * page_size..(index + 1) * page_size, kept * page_size);
            kept += 1;
        }
    }
    changed
}

fn data_offset(slot: u32, page_size: usize) -> u64 {
    (u64::from(slot) + 1) * page_size as u64
}

fn encode_header(page_size: usize, entries: usize, data_pages: u32) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    for number in [VERSION, page_size as u32, entries as u32, data_pages] {
        header.extend(number.to_le_bytes());
    }
    header.resize(HEADER_BYTES, 0);
    header
}

fn encode_table(entries: &[Entry]) -> Vec<u8> {
    let mut table = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        table.extend(entry.page.to_le_bytes());
        table.extend(entry.slot.unwrap_or(ZERO_PAGE_SLOT).to_le_bytes());
        table.extend(entry.hash);
    }
    table
}

fn decode_table(table: &[u8]) -> Vec<Entry> {
    let decode = |entry: &[u8; ENTRY_BYTES]| {
        let (numbers, hash) = entry.split_at(8);
        let number =
            |at: usize| u32::from_le_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
        let slot = Some(number(4)).filter(|slot| *slot != ZERO_PAGE_SLOT);
        Entry { page: number(0), slot, hash: hash.try_into().expect("invariant: 24 - 8 bytes are left") }
    };
    table.as_chunks::<ENTRY_BYTES>().0.iter().map(decode).collect()
}

impl Layer {
    /// Opens a layer and checks its header and table.
    pub(super) fn open(directory: &Path, described: &LayerFile, page_size: usize) -> Result<Self> {
        let path = directory.join(&described.file);
        let file = File::open(&path).map_err(|error| file_error("open", &path, error))?;
        let mut header = [0; HEADER_BYTES];
        let read_error = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(&path, "it is too short"),
            _ => file_error("read", &path, error),
        };
        file.read_exact_at(&mut header, 0).map_err(read_error)?;
        let count = u32::from_le_bytes([header[16], header[17], header[18], header[19]]) as usize;
        if header[..] != encode_header(page_size, count, described.data_pages) {
            return Err(damaged(&path, "its header does not fit the manifest"));
        }
        let length = file.metadata().map_err(read_error)?.len();
        let table_offset = data_offset(described.data_pages, page_size);
        if length != table_offset + (count * ENTRY_BYTES) as u64 {
            return Err(damaged(&path, "its length does not fit its header"));
        }
        let mut table = vec![0; count * ENTRY_BYTES];
        file.read_exact_at(&mut table, table_offset).map_err(read_error)?;
        if blake3::hash(&table).to_hex().as_str() != described.table_blake3 {
            return Err(damaged(&path, "the checksum of its table is not the one in the manifest"));
        }
        let entries = decode_table(&table);
        let mut taken = vec![false; described.data_pages as usize];
        let valid =
            |slot: u32| taken.get_mut(slot as usize).is_some_and(|taken| !std::mem::replace(taken, true));
        if !entries.iter().filter_map(|entry| entry.slot).all(valid) {
            return Err(damaged(&path, "its table names a page that is not there"));
        }
        Ok(Self { path, file, page_size, entries })
    }

    /// Reads the content of entries that follow each other in the file, or of entries that are not
    /// in it, and checks it.
    pub(super) fn read_run(&self, run: &[Entry], buffer: &mut [u8]) -> Result<()> {
        let Some(first) = run.first().and_then(|entry| entry.slot) else {
            buffer.fill(0);
            return Ok(());
        };
        let read = self.file.read_exact_at(buffer, data_offset(first, self.page_size));
        read.map_err(|error| file_error("read", &self.path, error))?;
        for (entry, content) in run.iter().zip(buffer.chunks(self.page_size)) {
            if page_hash(content) != entry.hash {
                return Err(self.damaged_page(entry.page));
            }
        }
        Ok(())
    }

    fn damaged_page(&self, page: u32) -> Error {
        damaged(&self.path, format!("the checksum of page {page} is not the one in its table"))
    }
}
