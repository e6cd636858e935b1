//! What an object must be for a request to be carried out.

use s3s::dto::{ETagCondition, Timestamp};
use s3s::{S3Error, S3Result, s3_error};

use super::bucket::Bucket;
use super::disk::{Disk, ObjectRecord};
use super::objects::timestamp;
use super::versions::Deletion;

/// What the current version must be for a deletion ("How to perform conditional
/// deletes", S3 user guide).
#[derive(Debug)]
pub(super) struct DeleteCondition {
    pub(super) e_tag: Option<ETagCondition>,
    pub(super) size: Option<i64>,
    pub(super) modified: Option<Timestamp>,
}

impl DeleteCondition {
    /// Deletes if the current version is as it must be; what is not there counts as deleted.
    pub(super) fn delete(
        &self,
        disk: &Disk,
        bucket: &Bucket,
        key: &str,
        version: Option<&str>,
    ) -> S3Result<Deletion> {
        let any = self.e_tag.is_some() || self.size.is_some() || self.modified.is_some();
        if let Some(named) = version {
            // A version never changes.
            if any && let Ok(found) = disk.version(bucket, key, Some(named)) {
                self.check(&found.record)?;
            }
            return disk.delete(bucket, key, version);
        }
        let allowed = |current: Option<&ObjectRecord>| match current {
            Some(current) => self.check(current).map(|()| true),
            None => Ok(true),
        };
        disk.delete_when(bucket, key, any.then_some(&allowed))
    }

    fn check(&self, current: &ObjectRecord) -> S3Result<()> {
        if self.holds(current) { Ok(()) } else { Err(failed()) }
    }

    fn holds(&self, current: &ObjectRecord) -> bool {
        // Times are told in whole seconds.
        let modified = timestamp(current.modified_ms / 1000 * 1000);
        self.e_tag.as_ref().is_none_or(|e_tag| covers(e_tag, current))
            && self.size.is_none_or(|size| u64::try_from(size) == Ok(current.size))
            && self.modified.as_ref().is_none_or(|wanted| *wanted == modified)
    }
}

fn failed() -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}

/// `If-Match` and `If-None-Match`.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
}

impl Condition {
    /// Whether an object may take the place of `current`.
    pub(super) fn check_write(&self, current: Option<&ObjectRecord>) -> S3Result<()> {
        match (&self.if_match, current) {
            (Some(_), None) => return Err(s3_error!(NoSuchKey, "The specified key does not exist.")),
            (Some(condition), Some(current)) if !covers(condition, current) => return Err(failed()),
            _ => {}
        }
        match (&self.if_none_match, current) {
            (Some(condition), Some(current)) if covers(condition, current) => Err(failed()),
            _ => Ok(()),
        }
    }

    pub(super) fn check_read(&self, record: &ObjectRecord) -> S3Result<()> {
        if !self.matches(record) {
            return Err(s3_error!(PreconditionFailed));
        }
        match &self.if_none_match {
            Some(condition) if covers(condition, record) => Err(s3_error!(NotModified)),
            _ => Ok(()),
        }
    }

    fn matches(&self, record: &ObjectRecord) -> bool {
        self.if_match.as_ref().is_none_or(|condition| covers(condition, record))
    }
}

fn covers(condition: &ETagCondition, record: &ObjectRecord) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(e_tag) => e_tag.value() == record.e_tag,
    }
}
