//! Versions that are deleted for good, and which one is the newest of those that are left.
//!
//! A key can have millions of versions. So the name of a version says when it was made, and the
//! newest is found by looking through names. That is done before the locks are taken, which others
//! share, and once more if something changed meanwhile.

use std::fs;
use std::path::Path;

use s3s::{S3Result, s3_error};

use super::StorageError;
use super::bucket::Bucket;
use super::disk::{Disk, ObjectRecord, entries, open_if_there, summary_if_there};
use super::usage::freed_by;
use super::versions::{Deletion, file_name, shown};

/// How often versions are looked through again because the object was changed meanwhile.
const TRIES: usize = 5;

impl Disk {
    /// Removes a version for good.
    pub(super) fn erase(&self, bucket: &Bucket, key: &str, version: &str) -> S3Result<Deletion> {
        let path = self.object_path(bucket, key);
        let aside = self.versions_path(bucket, key);
        let file = aside.join(file_name(version)?);
        let is_latest =
            |current: Option<&ObjectRecord>| current.is_none_or(|current| shown(current) == version);
        for attempt in 1..=TRIES {
            let watch = self.locks.watch(&path);
            // Who has it now took it before it was watched.
            drop(self.locks.key(&path));
            let before = open_if_there(&path)?.map(|object| object.record);
            let before = before.as_ref();
            let next = if is_latest(before) { successor(&aside, before, version)? } else { None };
            let _held = self.hold(bucket)?;
            let _alone = self.locks.key(&path);
            let current = open_if_there(&path)?.map(|object| object.record);
            let current = current.as_ref();
            let next = if !is_latest(current) {
                None
            } else if watch.taken() == 2 {
                // The lock was taken here only, twice, so what was found still holds.
                next
            } else if attempt == TRIES && has_few(&aside)? {
                successor(&aside, current, version)?
            } else {
                continue;
            };
            let marker = if current.is_some() && is_latest(current) {
                // What a crash may have left; it would become current again.
                self.remove(bucket, &file)?;
                let freed = freed_by(&path);
                match &next {
                    Some(next) => {
                        bring_back(&aside.join(next), &path)?;
                        self.usage.release(&bucket.owner, freed);
                    }
                    None => self.remove(bucket, &path)?,
                }
                false
            } else {
                let marker = summary_if_there(&file)?.is_some_and(|summary| summary.delete_marker);
                if let Some(next) = &next {
                    bring_back(&aside.join(next), &path)?;
                }
                self.remove(bucket, &file)?;
                marker
            };
            // Fails while there are versions.
            let _ = fs::remove_dir(&aside);
            return Ok(Deletion::Erased { marker });
        }
        Err(s3_error!(OperationAborted, "The object is being changed by others; try again."))
    }
}

/// The version that becomes current when the latest one, `going`, goes; `None` when none does.
fn successor(
    aside: &Path,
    current: Option<&ObjectRecord>,
    going: &str,
) -> Result<Option<String>, StorageError> {
    // Without a current version, a delete marker is the latest; another version changes nothing.
    let not_older_than = if current.is_some() { None } else { sequence_of(aside, going)? };
    let mut newest: Option<(u64, String)> = None;
    for path in entries(aside)? {
        let path = path?;
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name == going {
            continue;
        }
        let Some(sequence) = sequence_of(aside, name)? else { continue };
        if not_older_than.is_some_and(|limit| sequence > limit) {
            return Ok(None);
        }
        if newest.as_ref().is_none_or(|(newest, _)| sequence > *newest) {
            newest = Some((sequence, name.to_owned()));
        }
    }
    let Some((_, name)) = newest else { return Ok(None) };
    let summary = summary_if_there(&aside.join(&name))?;
    Ok(summary.filter(|summary| !summary.delete_marker).map(|_| name))
}

fn bring_back(from: &Path, path: &Path) -> Result<(), StorageError> {
    fs::rename(from, path).map_err(StorageError::io(path))
}

/// Whether so few versions are put aside that they can be looked through under a lock.
fn has_few(aside: &Path) -> Result<bool, StorageError> {
    const FEW: usize = 1000;
    Ok(entries(aside)?.take(FEW + 1).count() <= FEW)
}

/// The newest version that was put aside, with its place in the order of versions.
pub(super) fn newest_in(aside: &Path) -> Result<Option<(u64, String)>, StorageError> {
    let mut newest: Option<(u64, String)> = None;
    for path in entries(aside)? {
        let path = path?;
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(sequence) = sequence_of(aside, name)? else { continue };
        if newest.as_ref().is_none_or(|(newest, _)| sequence > *newest) {
            newest = Some((sequence, name.to_owned()));
        }
    }
    Ok(newest)
}

/// Where a version that was put aside is in the order of versions; `None` when it is not there.
/// Only those from before the name said so are read, and the one that is called null.
pub(super) fn sequence_of(aside: &Path, name: &str) -> Result<Option<u64>, StorageError> {
    match made_at(name) {
        Some(sequence) => Ok(Some(sequence)),
        None => Ok(summary_if_there(&aside.join(name))?.map(|summary| summary.sequence)),
    }
}

/// A new name for a version that is made at `sequence`: a UUID of version 8, which says it
/// in its first 66 bits.
pub(super) fn new_version(sequence: u64) -> String {
    let mut bytes = *uuid::Uuid::new_v4().as_bytes();
    let shifted = u128::from(sequence) << 64;
    // 48 bits, 4 of the UUID's version, 12 bits, 2 of its variant, and the last 4.
    let fixed =
        (shifted >> 80 << 80) | ((shifted >> 68 & 0xfff) << 64) | ((u128::from(sequence) & 0xf) << 58);
    let random = u128::from_be_bytes(bytes) & ((1 << 58) - 1);
    bytes = (fixed | random).to_be_bytes();
    uuid::Builder::from_custom_bytes(bytes).into_uuid().simple().to_string()
}

/// When a version was made, if its name says it.
pub(super) fn made_at(name: &str) -> Option<u64> {
    const CUSTOM: usize = 8;
    let uuid = uuid::Uuid::try_parse(name).ok().filter(|uuid| uuid.get_version_num() == CUSTOM)?;
    let bits = uuid.as_u128();
    Some(((bits >> 80 << 16) | ((bits >> 64 & 0xfff) << 4) | (bits >> 58 & 0xf)) as u64)
}

#[cfg(test)]
#[path = "erase_tests.rs"]
mod tests;
