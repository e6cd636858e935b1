//! One bucket on its way through its lifecycle rules.

use std::collections::BinaryHeap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use s3s::S3Result;
use s3s::dto::BucketLifecycleConfiguration;

use super::bucket::Bucket;
use super::disk::{Disk, ObjectRecord, entries, open_if_there, summary_if_there};
use super::erase::made_at;
use super::expiry::Rule;
use super::setting_files::Setting;
use super::upload::upload_in;
use super::versions::shown;
use super::{StorageError, stored};

/// Most former versions of one key that go in one sweep, the oldest first.
const VERSIONS_OF_KEY: usize = 100_000;
const NANOSECONDS_OF_MILLISECOND: u64 = 1_000_000;

/// A file or directory that is to be looked at.
#[derive(Debug)]
enum Found {
    Upload(PathBuf),
    Object(PathBuf),
    /// Versions of a key that are not current.
    Aside(PathBuf),
}

/// A bucket whose rules are being followed.
pub(super) struct Sweep {
    bucket: Arc<Bucket>,
    rules: Vec<Rule>,
    left: Box<dyn Iterator<Item = Result<Found, StorageError>> + Send>,
}

impl fmt::Debug for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweep").field("bucket", &self.bucket.name).finish_non_exhaustive()
    }
}

/// A version that is not current. Ordered by age, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Former {
    sequence: u64,
    /// Milliseconds since 1970.
    since_ms: i64,
    name: String,
}

impl Sweep {
    /// `None`: there is nothing to do.
    pub(super) fn begin(disk: &Disk, name: &str, now: Timestamp) -> S3Result<Option<Self>> {
        let Some(bucket) = disk.find_any(name)? else { return Ok(None) };
        let Some(xml) = disk.setting(&bucket.place, Setting::Lifecycle)? else { return Ok(None) };
        let rules = Rule::all(&stored::read::<BucketLifecycleConfiguration>(&xml)?, now);
        let contents = bucket.contents();
        let about_uploads = rules.iter().any(|rule| rule.uploads_before.is_some());
        let about_versions = rules.iter().any(Rule::is_about_versions);
        let uploads = about_uploads.then(|| entries(&bucket.uploads())).transpose()?;
        let objects = about_versions.then(|| entries(&contents.join("objects"))).transpose()?;
        let asides = about_versions.then(|| entries(&contents.join("versions"))).transpose()?;
        let uploads = uploads.into_iter().flatten().map(|path| Ok(Found::Upload(path?)));
        let objects = objects.into_iter().flatten().map(|path| Ok(Found::Object(path?)));
        let asides = asides.into_iter().flatten().map(|path| Ok(Found::Aside(path?)));
        let left = Box::new(uploads.chain(objects).chain(asides));
        Ok((!rules.is_empty()).then_some(Self { bucket, rules, left }))
    }

    pub(super) fn name(&self) -> &str {
        &self.bucket.name
    }

    /// Looks at about so many files; whether there are more.
    pub(super) fn step(&mut self, disk: &Disk, files: usize) -> S3Result<bool> {
        let mut looked_at = 0;
        while looked_at < files {
            let Some(found) = self.left.next() else { return Ok(false) };
            looked_at += match found? {
                Found::Upload(directory) => self.upload(disk, &directory)?,
                Found::Object(path) => self.object(disk, &path)?,
                Found::Aside(directory) => self.without_current(disk, &directory)?,
            };
        }
        Ok(true)
    }

    fn upload(&self, disk: &Disk, directory: &Path) -> S3Result<usize> {
        let over = upload_in(directory).is_some_and(|upload| {
            self.rules.iter().any(|rule| {
                rule.uploads_before.is_some_and(|before| upload.initiated_ms < before)
                    && upload.key.starts_with(&rule.filter.prefix)
            })
        });
        if over {
            disk.remove_upload(&self.bucket, directory)?;
        }
        Ok(1)
    }

    /// A key that has a current version.
    fn object(&self, disk: &Disk, path: &Path) -> S3Result<usize> {
        let Some(object) = open_if_there(path)? else { return Ok(1) };
        let current = object.record;
        let latest = Former {
            sequence: current.sequence,
            since_ms: current.modified_ms,
            name: shown(&current).to_owned(),
        };
        let aside = disk.versions_path(&self.bucket, &current.key);
        let looked_at = self.former(disk, &aside, &current.key, &latest)?;
        if self.rules.iter().any(|rule| rule.has_expired(current.modified_ms) && rule.filter.covers(&current))
        {
            disk.delete_if(&self.bucket, &current.key, &current)?;
        }
        Ok(looked_at + 1)
    }

    /// Versions of a key that has none which is current: the latest is a delete marker.
    fn without_current(&self, disk: &Disk, aside: &Path) -> S3Result<usize> {
        let Some(name) = aside.file_name() else { return Ok(1) };
        if self.bucket.contents().join("objects").join(name).exists() {
            return Ok(1);
        }
        let (mut latest, mut count): (Option<Former>, usize) = (None, 0);
        for path in entries(aside)? {
            let former = former_at(&path?)?;
            count += usize::from(former.is_some());
            latest = latest.max(former);
        }
        let Some(latest) = latest else { return Ok(1) };
        let Some(marker) = summary_if_there(&aside.join(&latest.name))? else { return Ok(count) };
        if !marker.delete_marker {
            return Ok(count);
        }
        let latest = Former { since_ms: marker.modified_ms, ..latest };
        if count > 1 {
            return Ok(count + self.former(disk, aside, &marker.key, &latest)?);
        }
        // A marker that hides nothing any more goes by either kind of rule.
        let goes = self.rules.iter().any(|rule| {
            marker.key.starts_with(&rule.filter.prefix)
                && (rule.lone_markers || rule.has_expired(marker.modified_ms))
        });
        if goes {
            disk.delete(&self.bucket, &marker.key, Some(&latest.name))?;
        }
        Ok(count)
    }

    /// Removes what has expired of the versions that were put aside, but for the latest;
    /// tells how many there are.
    fn former(&self, disk: &Disk, aside: &Path, key: &str, latest: &Former) -> S3Result<usize> {
        let rules: Vec<(&Rule, i64, usize)> = self
            .rules
            .iter()
            .filter(|rule| key.starts_with(&rule.filter.prefix))
            .filter_map(|rule| rule.noncurrent.map(|(before, kept)| (rule, before, kept)))
            .collect();
        if rules.is_empty() {
            return Ok(0);
        }
        let (oldest, count) = oldest_in(aside, latest)?;
        for (index, former) in oldest.iter().enumerate() {
            let newer = count - 1 - index;
            let next = match oldest.get(index + 1) {
                Some(next) => next,
                None if newer == 0 => latest,
                None => break,
            };
            // It is not current since the next one came.
            let due = |(_, before, kept): &&(&Rule, i64, usize)| newer >= *kept && next.since_ms < *before;
            let mut due = rules.iter().filter(due).map(|(rule, ..)| *rule).peekable();
            if due.peek().is_none() {
                continue;
            }
            let mut record = None;
            let mut covers = |rule: &Rule| -> Result<bool, StorageError> {
                if !rule.filter.needs_record() {
                    return Ok(true);
                }
                if record.is_none() {
                    record = open_if_there(&aside.join(&former.name))?.map(|object| object.record);
                }
                Ok(record.as_ref().is_some_and(|record: &ObjectRecord| rule.filter.covers(record)))
            };
            let mut goes = false;
            for rule in due {
                goes = goes || covers(rule)?;
            }
            if goes {
                disk.delete(&self.bucket, key, Some(&former.name))?;
            }
        }
        Ok(count)
    }
}

/// The oldest versions that were put aside, in order, and how many there are in all;
/// without the latest.
fn oldest_in(aside: &Path, latest: &Former) -> Result<(Vec<Former>, usize), StorageError> {
    let (mut oldest, mut count) = (BinaryHeap::new(), 0);
    for path in entries(aside)? {
        let Some(former) = former_at(&path?)?.filter(|former| former.name != latest.name) else { continue };
        count += 1;
        oldest.push(former);
        if oldest.len() > VERSIONS_OF_KEY {
            oldest.pop();
        }
    }
    Ok((oldest.into_sorted_vec(), count))
}

/// A version as its name tells it, or its description when the name does not.
fn former_at(path: &Path) -> Result<Option<Former>, StorageError> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(None) };
    let told = |sequence, since_ms| Former { sequence, since_ms, name: name.to_owned() };
    match made_at(name) {
        Some(sequence) => Ok(Some(told(sequence, (sequence / NANOSECONDS_OF_MILLISECOND) as i64))),
        None => Ok(summary_if_there(path)?.map(|summary| told(summary.sequence, summary.modified_ms))),
    }
}
