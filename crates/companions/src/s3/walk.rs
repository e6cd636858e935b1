//! A bucket read through, one description after the other: there can be millions, so none is kept here.

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

    /// Shows every version of every object, in any order.
    pub(super) fn each_version(
        &self,
        bucket: &Bucket,
        mut show: impl FnMut(ListedVersion),
    ) -> Result<(), StorageError> {
        self.check_there(bucket)?;
        let (objects, asides) = (bucket.contents().join("objects"), bucket.contents().join("versions"));
        for path in entries(&objects)? {
            let path = path?;
            let Some(current) = summary_if_there(&path)? else { continue };
            let shown = current.shown().to_owned();
            show(ListedVersion { summary: current, latest: true });
            let Some(name) = path.file_name() else { continue };
            for version in entries(&asides.join(name))? {
                // What a crash left twice is one version.
                let summary = summary_if_there(&version?)?.filter(|summary| summary.shown() != shown);
                if let Some(summary) = summary {
                    show(ListedVersion { summary, latest: false });
                }
            }
        }
        for aside in entries(&asides)? {
            let aside = aside?;
            let Some(name) = aside.file_name().filter(|name| !objects.join(name).exists()) else { continue };
            let aside = asides.join(name);
            let newest = newest_in(&aside)?.map(|(_, version)| version);
            for version in entries(&aside)? {
                if let Some(summary) = summary_if_there(&version?)? {
                    let latest = newest.as_deref() == Some(summary.shown());
                    show(ListedVersion { summary, latest });
                }
            }
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
