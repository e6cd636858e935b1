//! What a zip claims of its central directory, looked at before anything reads that directory: a
//! reader makes room for as many entries as are claimed.
//!
//! Form: APPNOTE.TXT of PKWARE, sections 4.3.14 to 4.3.16.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use super::{ArchiveLimits, invalid};
use crate::failure::BuildFailure;

/// Bytes of an end record without its comment.
const END_BYTES: usize = 22;
/// Bytes of the locator of a zip64 end record, which comes right before the end record.
const LOCATOR_BYTES: usize = 20;
/// Bytes of a zip64 end record.
const END64_BYTES: usize = 56;
/// Longest comment at the end of an archive.
const COMMENT_BYTES: usize = 0xffff;
/// What finding the end record takes beside the directory itself.
const SEARCH_BYTES: u64 = 4 << 20;

/// Refuses an archive whose directory is too large; returns the bytes of the file.
///
/// There may be several end records (a zip in a zip, or a comment that looks like one) and readers
/// differ in which they take. None of them may claim too much.
pub(super) fn check(zip: &File, limits: &ArchiveLimits) -> Result<u64, BuildFailure> {
    let unreadable = |error: io::Error| BuildFailure::platform("read the code artifact", &error);
    let file_bytes = zip.metadata().map_err(unreadable)?.len();
    let tail_bytes = file_bytes.min((END64_BYTES + LOCATOR_BYTES + END_BYTES + COMMENT_BYTES) as u64);
    let tail_start = file_bytes - tail_bytes;
    let mut tail = vec![0; tail_bytes as usize];
    zip.read_exact_at(&mut tail, tail_start).map_err(unreadable)?;
    for at in 0..tail.len().saturating_sub(END_BYTES - 1) {
        if tail[at..].starts_with(b"PK\x05\x06") && may_be_one(&tail, at, tail_start) {
            refuse_large(u64::from(u16_at(&tail, at + 10)), u64::from(u32_at(&tail, at + 12)), limits)?;
            for record in zip64_records(zip, &tail, tail_start, at).map_err(unreadable)? {
                refuse_large(u64_at(&record, 32), u64_at(&record, 40), limits)?;
            }
        }
    }
    Ok(file_bytes)
}

/// Whether the directory that an end record claims has room before it. What does not is a comment,
/// or data, of which no reader gets a directory.
fn may_be_one(tail: &[u8], at: usize, tail_start: u64) -> bool {
    let directory_bytes = u64::from(u32_at(tail, at + 12));
    directory_bytes == 0xffff_ffff || directory_bytes <= tail_start + at as u64
}

/// The zip64 end records that belong to the end record at `at`: where its locator says, and
/// right before the locator.
fn zip64_records(zip: &File, tail: &[u8], tail_start: u64, at: usize) -> io::Result<Vec<[u8; END64_BYTES]>> {
    let mut records = Vec::new();
    let Some(locator) = at.checked_sub(LOCATOR_BYTES).map(|start| &tail[start..at]) else {
        return Ok(records);
    };
    if !locator.starts_with(b"PK\x06\x07") {
        return Ok(records);
    }
    let before = (tail_start + at as u64).checked_sub((LOCATOR_BYTES + END64_BYTES) as u64);
    for place in [Some(u64_at(locator, 8)), before].into_iter().flatten() {
        let mut record = [0; END64_BYTES];
        match zip.read_exact_at(&mut record, place) {
            Ok(()) if record.starts_with(b"PK\x06\x06") => records.push(record),
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            // An offset beyond what a file can have.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

fn refuse_large(entries: u64, directory_bytes: u64, limits: &ArchiveLimits) -> Result<(), BuildFailure> {
    // These stand for "see the zip64 record".
    let entries = if entries == 0xffff { 0 } else { entries };
    let directory_bytes = if directory_bytes == 0xffff_ffff { 0 } else { directory_bytes };
    if entries > limits.entries as u64 {
        return Err(too_many(entries, limits));
    }
    if directory_bytes > limits.directory_bytes {
        return Err(invalid(format!(
            "The zip archive has {directory_bytes} bytes of names and comments; at most {} are allowed.",
            limits.directory_bytes
        )));
    }
    Ok(())
}

pub(super) fn too_many(entries: u64, limits: &ArchiveLimits) -> BuildFailure {
    invalid(format!("The zip archive has {entries} entries; at most {} are allowed.", limits.entries))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// A file that fails when more is read of it than was agreed on: whatever the end records say, no
/// reader gets more of a directory than its limit.
#[derive(Debug)]
pub(super) struct Budgeted {
    file: File,
    budget: Budget,
}

/// What may still be read.
#[derive(Debug, Clone)]
pub(super) struct Budget(Rc<Cell<Option<u64>>>);

impl Budget {
    /// From now on, everything may be read.
    pub(super) fn lift(&self) {
        self.0.set(None);
    }
}

impl Budgeted {
    pub(super) fn new(file: File, directory_bytes: u64) -> (Self, Budget) {
        let budget = Budget(Rc::new(Cell::new(Some(directory_bytes.saturating_add(SEARCH_BYTES)))));
        (Self { file, budget: budget.clone() }, budget)
    }
}

impl Read for Budgeted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if let Some(left) = self.budget.0.get() {
            let left = left
                .checked_sub(count as u64)
                .ok_or_else(|| io::Error::other("its directory is larger than is allowed"))?;
            self.budget.0.set(Some(left));
        }
        Ok(count)
    }
}

impl Seek for Budgeted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
