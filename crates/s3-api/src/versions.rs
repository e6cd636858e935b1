//! Versions of objects: which one is current, and how one becomes it.
//!
//! The current version is the file under `objects`; a key whose newest version is a delete marker
//! has none there. All other versions are files under `versions`. A version is put aside with a
//! hard link before another takes its place, so at no moment is it gone; what a crash leaves twice
//! is the same version and counts once.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use s3s::{S3Error, S3Result, s3_error};
use tempfile::NamedTempFile;

use super::StorageError;
use super::bucket::{Bucket, Versioning};
use super::conditions::Condition;
use super::disk::{Disk, ObjectRecord, OpenObject, open_if_there};
use super::erase::new_version;
use super::usage::Reservation;

/// How S3 spells the version that a bucket without versioning has.
pub(super) const NULL: &str = "null";

/// How often a description is tried to be changed when the object is replaced meanwhile.
const REDESCRIBE_TRIES: usize = 5;

/// What a deletion did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deletion {
    /// There are no versions; the object is gone.
    Gone,
    /// A delete marker of this version hides the object.
    Marked(Option<String>),
    /// This version is gone for good; whether it was a delete marker.
    Erased { marker: bool },
}

/// Whether the current version of an object may be deleted.
pub(super) type Allowed<'a> = &'a dyn Fn(Option<&ObjectRecord>) -> S3Result<bool>;

impl Disk {
    /// Where versions of an object that are not current are.
    pub(super) fn versions_path(&self, bucket: &Bucket, key: &str) -> PathBuf {
        let object = self.object_path(bucket, key);
        let name = object.file_name().expect("invariant: an object's path ends with its name");
        bucket.contents().join("versions").join(name)
    }

    /// Puts an object in place if the conditions hold; tells its version.
    pub(super) fn put(
        &self,
        bucket: &Bucket,
        content: (NamedTempFile, Reservation),
        mut record: ObjectRecord,
        condition: &Condition,
    ) -> S3Result<ObjectRecord> {
        settle(&content)?;
        let held = self.hold(bucket)?;
        let path = self.object_path(bucket, &record.key);
        let _alone = self.locks.key(&path);
        let current = open_if_there(&path)?.map(|object| object.record);
        condition.check_write(current.as_ref())?;
        record.sequence = sequence_after(current.as_ref());
        let versioning = held.now.record.versioning;
        record.version = (versioning == Some(Versioning::Enabled)).then(|| new_version(record.sequence));
        if versioning.is_none() {
            self.commit(bucket, content, &record, &path)?;
            return Ok(record);
        }
        let aside = self.versions_path(bucket, &record.key);
        self.put_aside(bucket, &path, (current.as_ref(), record.version.as_ref()), &aside)?;
        self.commit(bucket, content, &record, &path)?;
        if record.version.is_none() {
            self.remove(bucket, &aside.join(NULL))?;
        }
        Ok(record)
    }

    /// An object in a version, or in the current one.
    pub(super) fn version(&self, bucket: &Bucket, key: &str, version: Option<&str>) -> S3Result<OpenObject> {
        let Some(wanted) = version else { return Ok(self.object(bucket, key)?) };
        let file_name = file_name(wanted)?;
        let path = self.object_path(bucket, key);
        let found = match open_if_there(&path)?.filter(|object| shown(&object.record) == wanted) {
            Some(current) => Some(current),
            None => open_if_there(&self.versions_path(bucket, key).join(file_name))?,
        };
        match found {
            Some(object) if object.record.delete_marker => Err(marker_error(wanted)),
            Some(object) => Ok(object),
            None => {
                self.check_there(bucket)?;
                Err(s3_error!(NoSuchVersion, "The specified version does not exist."))
            }
        }
    }

    /// Replaces the description of a version; its bytes stay.
    pub(super) fn redescribe(
        &self,
        bucket: &Bucket,
        key: &str,
        version: Option<&str>,
        change: impl Fn(&mut ObjectRecord),
    ) -> S3Result<ObjectRecord> {
        // The copy is made without the locks, which others share.
        for _ in 0..REDESCRIBE_TRIES {
            let mut object = self.version(bucket, key, version)?;
            let path = self.object_path(bucket, key);
            let mut content = (self.temporary()?, self.reserve(bucket, object.record.size)?);
            object.copy_to(content.0.as_file_mut()).map_err(StorageError::io(&path))?;
            settle(&content)?;
            let _held = self.hold(bucket)?;
            let _alone = self.locks.key(&path);
            let mut record = self.version(bucket, key, version)?.record;
            if !same_bytes(&record, &object.record) {
                continue;
            }
            let current =
                open_if_there(&path)?.is_some_and(|current| current.record.version == record.version);
            let target = if current { path } else { self.versions_path(bucket, key).join(shown(&record)) };
            change(&mut record);
            self.commit(bucket, content, &record, &target)?;
            return Ok(record);
        }
        Err(s3_error!(OperationAborted, "The object is being replaced by others; try again."))
    }

    /// Deletes an object, or one version of it for good. What is not there counts as deleted.
    pub(super) fn delete(&self, bucket: &Bucket, key: &str, version: Option<&str>) -> S3Result<Deletion> {
        match version {
            Some(version) => self.erase(bucket, key, version),
            None => self.delete_when(bucket, key, None),
        }
    }

    /// Deletes an object, but only while the current version is still `expected`.
    pub(super) fn delete_if(
        &self,
        bucket: &Bucket,
        key: &str,
        expected: &ObjectRecord,
    ) -> S3Result<Deletion> {
        let still = |current: Option<&ObjectRecord>| Ok(current.is_some_and(|it| same_bytes(it, expected)));
        self.delete_when(bucket, key, Some(&still))
    }

    /// Deletes an object if `allowed` says so of the current version, which nobody
    /// changes in between.
    pub(super) fn delete_when(
        &self,
        bucket: &Bucket,
        key: &str,
        allowed: Option<Allowed<'_>>,
    ) -> S3Result<Deletion> {
        let held = self.hold(bucket)?;
        let path = self.object_path(bucket, key);
        let _alone = self.locks.key(&path);
        if let Some(allowed) = allowed {
            let current = open_if_there(&path)?.map(|object| object.record);
            if !allowed(current.as_ref())? {
                return Ok(Deletion::Gone);
            }
        }
        let Some(versioning) = held.now.record.versioning else {
            self.remove(bucket, &path)?;
            return Ok(Deletion::Gone);
        };
        let aside = self.versions_path(bucket, key);
        let mut marker = ObjectRecord::new(key.to_owned(), 0, String::new());
        marker.delete_marker = true;
        let current = open_if_there(&path)?.map(|object| object.record);
        marker.sequence = sequence_after(current.as_ref());
        marker.version = (versioning == Versioning::Enabled).then(|| new_version(marker.sequence));
        let content = (self.temporary()?, self.reserve(bucket, 1)?);
        self.put_aside(bucket, &path, (current.as_ref(), marker.version.as_ref()), &aside)?;
        self.commit(bucket, content, &marker, &aside.join(shown(&marker)))?;
        self.remove(bucket, &path)?;
        Ok(Deletion::Marked(marker.version))
    }

    /// Keeps the current version unless it is replaced by the same one.
    fn put_aside(
        &self,
        bucket: &Bucket,
        path: &Path,
        (current, replaced_by): (Option<&ObjectRecord>, Option<&String>),
        aside: &Path,
    ) -> Result<(), StorageError> {
        fs::create_dir_all(aside).map_err(StorageError::io(aside))?;
        let Some(current) = current.filter(|current| current.version.as_ref() != replaced_by) else {
            return Ok(());
        };
        let link = aside.join(shown(current));
        self.remove(bucket, &link)?;
        fs::hard_link(path, &link).map_err(StorageError::io(&link))
    }
}

/// Gets the bytes to the disk before a lock is taken, so that it is not held for as
/// long as that takes.
pub(super) fn settle((content, _): &(NamedTempFile, Reservation)) -> Result<(), StorageError> {
    content.as_file().sync_data().map_err(StorageError::io(content.path()))
}

/// Whether two descriptions are of the same bytes.
fn same_bytes(a: &ObjectRecord, b: &ObjectRecord) -> bool {
    let identity =
        |record: &ObjectRecord| (record.sequence, record.modified_ms, record.size, record.e_tag.clone());
    identity(a) == identity(b) && a.version == b.version
}

/// The version as S3 shows it.
pub(super) fn shown(record: &ObjectRecord) -> &str {
    record.version.as_deref().unwrap_or(NULL)
}

/// A version that a caller names, made sure to be no path.
pub(super) fn file_name(version: &str) -> S3Result<&str> {
    let ours = version.len() == 32 && version.bytes().all(|byte| byte.is_ascii_hexdigit());
    if ours || version == NULL {
        Ok(version)
    } else {
        Err(s3_error!(InvalidArgument, "Invalid version id specified"))
    }
}

/// The place of a version that is made now in the order of versions: behind the one that it
/// replaces and all that this process has made, also when the clock was set back meanwhile.
fn sequence_after(current: Option<&ObjectRecord>) -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0);
    let least = now.max(current.map_or(0, |current| current.sequence.saturating_add(1)));
    let next = |before: u64| least.max(before.saturating_add(1));
    let before = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| Some(next(before)));
    next(before.unwrap_or_else(|before| before))
}

/// A delete marker was asked for by its version.
fn marker_error(version: &str) -> S3Error {
    let mut error = s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource.");
    let mut headers = http::HeaderMap::new();
    headers.insert("x-amz-delete-marker", http::HeaderValue::from_static("true"));
    if let Ok(version) = http::HeaderValue::from_str(version) {
        headers.insert("x-amz-version-id", version);
    }
    error.set_headers(headers);
    error
}
