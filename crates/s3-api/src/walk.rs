//! A bucket read through, one description after the other: there can be millions, so
//! none is kept here.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::StorageError;
use super::bucket::Bucket;
use super::disk::{Disk, Summary, entries, summary_if_there};
use super::erase::newest_in;
use super::listing::Rank;
use super::versions::NULL;

/// A version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedVersion {
    pub(super) summary: Summary,
    pub(super) latest: bool,
}

impl Summary {
    /// The version as S3 shows it.
    pub(super) fn shown(&self) -> &str {
        self.version.as_deref().unwrap_or(NULL)
    }
}

impl ListedVersion {
    pub(super) fn rank_of(summary: &Summary, latest: bool) -> Rank {
        let version = summary.shown().to_owned();
        Rank { older: !latest, age: std::cmp::Reverse(summary.sequence), version }
    }
}

impl Disk {
    /// Shows the current version of every object, in any order.
    pub(super) fn each_object(
        &self,
        bucket: &Bucket,
        mut show: impl FnMut(Summary),
    ) -> Result<(), StorageError> {
        self.check_there(bucket)?;
        for path in entries(&bucket.contents().join("objects"))? {
            // It may have been deleted since the directory was read.
            if let Some(summary) = summary_if_there(&path?)? {
                show(summary);
            }
        }
        Ok(())
    }

    /// Shows every version of every object, in any order; one that is changed meanwhile perhaps
    /// twice.
    pub(super) fn each_version(
        &self,
        bucket: &Bucket,
        mut show: impl FnMut(ListedVersion),
    ) -> Result<(), StorageError> {
        self.check_there(bucket)?;
        let (objects, asides) = (bucket.contents().join("objects"), bucket.contents().join("versions"));
        let began = SystemTime::now();
        // First those under a delete marker: what is brought back meanwhile is an object then.
        for aside in entries(&asides)? {
            let aside = aside?;
            let Some(name) = aside.file_name().filter(|name| !objects.join(name).exists()) else { continue };
            each_version_of(&objects.join(name), &aside, &mut show)?;
        }
        for path in entries(&objects)? {
            let path = path?;
            let Some(name) = path.file_name() else { continue };
            each_version_of(&path, &asides.join(name), &mut show)?;
        }
        // What was deleted meanwhile has become one of those under a marker.
        for aside in entries(&asides)? {
            let aside = aside?;
            let Some(name) = aside.file_name().filter(|_| has_changed(&aside, began)) else { continue };
            each_version_of(&objects.join(name), &aside, &mut show)?;
        }
        Ok(())
    }

    /// Where a version of an object is in the order of a listing; `None` when it is not there.
    pub(super) fn rank(
        &self,
        bucket: &Bucket,
        key: &str,
        version: &str,
    ) -> Result<Option<Rank>, StorageError> {
        let current = summary_if_there(&self.object_path(bucket, key))?;
        if let Some(current) = current.as_ref().filter(|current| current.shown() == version) {
            return Ok(Some(ListedVersion::rank_of(current, true)));
        }
        let aside = self.versions_path(bucket, key);
        let Some(summary) = summary_if_there(&aside.join(version))? else { return Ok(None) };
        let newest = if current.is_none() { newest_in(&aside)? } else { None };
        let latest = newest.is_some_and(|(_, newest)| newest == version);
        Ok(Some(ListedVersion::rank_of(&summary, latest)))
    }
}

/// Every version of one object, whose current one is at `path`.
fn each_version_of(
    path: &Path,
    aside: &Path,
    show: &mut impl FnMut(ListedVersion),
) -> Result<(), StorageError> {
    let current = summary_if_there(path)?;
    let current_version = current.as_ref().map(|current| current.shown().to_owned());
    let newest = if current.is_none() { newest_in(aside)?.map(|(_, version)| version) } else { None };
    if let Some(summary) = current {
        show(ListedVersion { summary, latest: true });
    }
    for version in entries(aside)? {
        // What a crash left twice is one version.
        let summary =
            summary_if_there(&version?)?.filter(|it| current_version.as_deref() != Some(it.shown()));
        if let Some(summary) = summary {
            let latest = newest.as_deref() == Some(summary.shown());
            show(ListedVersion { summary, latest });
        }
    }
    Ok(())
}

/// Whether something was put into this directory, or taken out of it, since `began`.
fn has_changed(directory: &Path, began: SystemTime) -> bool {
    /// How exactly file systems remember.
    const GRAIN: Duration = Duration::from_secs(2);
    let began = began.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(GRAIN);
    fs::metadata(directory).is_ok_and(|metadata| metadata.ctime() >= began.as_secs().cast_signed())
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
