//! What has expired by a bucket's lifecycle rules goes: objects, former versions, delete markers
//! and unfinished uploads.
//!
//! A bucket is read once for all of its rules, one description after the other, in short turns
//! between those of other accounts. Nobody's rules hold up those of others.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::{Span, Timestamp, tz::TimeZone};
use s3s::dto::{
    BucketLifecycleConfiguration, ExpirationStatus, LifecycleRule, LifecycleRuleFilter, TimestampFormat,
};

use super::disk::{Disk, ObjectRecord, blocking};
use super::expiry_sweep::Sweep;
use super::{ObjectStorage, StorageError};

/// Files that are looked at in a turn.
const FILES_OF_TURN: usize = 1000;
/// Buckets that are looked for rules in a turn.
const BUCKETS_OF_TURN: usize = 100;

/// Which objects a rule is about.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) prefix: String,
    tags: Vec<(String, String)>,
    larger_than: Option<i64>,
    smaller_than: Option<i64>,
}

impl Filter {
    pub(super) fn of(rule: &LifecycleRule) -> Self {
        let text = |prefix: &Option<String>| prefix.clone().unwrap_or_default();
        let tag = |tag: &s3s::dto::Tag| {
            (tag.key.clone().unwrap_or_default(), tag.value.clone().unwrap_or_default())
        };
        match &rule.filter {
            None => Self { prefix: text(&rule.prefix), ..Self::default() },
            Some(LifecycleRuleFilter { and: Some(and), .. }) => Self {
                prefix: text(&and.prefix),
                tags: and.tags.iter().flatten().map(tag).collect(),
                larger_than: and.object_size_greater_than,
                smaller_than: and.object_size_less_than,
            },
            Some(filter) => Self {
                prefix: text(&filter.prefix),
                tags: filter.tag.iter().map(tag).collect(),
                larger_than: filter.object_size_greater_than,
                smaller_than: filter.object_size_less_than,
            },
        }
    }

    pub(super) fn has_tags(&self) -> bool {
        !self.tags.is_empty()
    }

    /// Whether more than the key decides.
    pub(super) fn needs_record(&self) -> bool {
        self.has_tags() || self.larger_than.is_some() || self.smaller_than.is_some()
    }

    pub(super) fn covers(&self, record: &ObjectRecord) -> bool {
        let size = i64::try_from(record.size).unwrap_or(i64::MAX);
        record.key.starts_with(&self.prefix)
            && self.tags.iter().all(|(key, value)| record.tags.get(key) == Some(value))
            && self.larger_than.is_none_or(|limit| size > limit)
            && self.smaller_than.is_none_or(|limit| size < limit)
    }
}

/// A rule as it is followed at one time. What was there before a time in
/// milliseconds since 1970 goes.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) filter: Filter,
    pub(super) expired_before: Option<i64>,
    pub(super) lone_markers: bool,
    /// Since when a version must not be current any more, and how many of those are kept.
    pub(super) noncurrent: Option<(i64, usize)>,
    pub(super) uploads_before: Option<i64>,
}

impl Rule {
    /// Rules of a configuration that can do something at `now`.
    pub(super) fn all(setting: &BucketLifecycleConfiguration, now: Timestamp) -> Vec<Self> {
        let enabled = |rule: &&LifecycleRule| rule.status.as_str() == ExpirationStatus::ENABLED;
        let rules = setting.rules.iter().filter(enabled).map(|rule| Self::of(rule, now));
        rules.filter(|rule| rule.is_about_versions() || rule.uploads_before.is_some()).collect()
    }

    fn of(rule: &LifecycleRule, now: Timestamp) -> Self {
        let before = |days: i32| over_since(days, now);
        let expiration = rule.expiration.as_ref();
        let date = expiration.and_then(|expiration| expiration.date.as_ref()).map(time_of);
        let noncurrent = rule.noncurrent_version_expiration.as_ref().and_then(|noncurrent| {
            let kept = noncurrent.newer_noncurrent_versions.unwrap_or(0);
            Some((before(noncurrent.noncurrent_days.unwrap_or(1))?, usize::try_from(kept).unwrap_or(0)))
        });
        let abort = rule.abort_incomplete_multipart_upload.as_ref();
        Self {
            filter: Filter::of(rule),
            expired_before: match date {
                Some(date) => (date <= now).then_some(i64::MAX),
                None => expiration.and_then(|expiration| expiration.days).and_then(before),
            },
            lone_markers: expiration.is_some_and(|it| it.expired_object_delete_marker == Some(true)),
            noncurrent,
            uploads_before: abort.and_then(|abort| abort.days_after_initiation).and_then(before),
        }
    }

    pub(super) fn is_about_versions(&self) -> bool {
        self.expired_before.is_some() || self.lone_markers || self.noncurrent.is_some()
    }

    pub(super) fn has_expired(&self, modified_ms: i64) -> bool {
        self.expired_before.is_some_and(|before| modified_ms < before)
    }
}

/// What is from before this time is over after `days`: S3 waits for the next midnight. `None`:
/// nothing is, the calendar has not so many days.
fn over_since(days: i32, now: Timestamp) -> Option<i64> {
    let midnight = now.to_zoned(TimeZone::UTC).start_of_day().ok()?;
    let since = midnight.checked_sub(Span::new().try_days(days).ok()?).ok()?;
    Some(since.timestamp().as_millisecond())
}

/// A date that cannot be read never comes.
fn time_of(date: &s3s::dto::Timestamp) -> Timestamp {
    let mut text = Vec::new();
    let written = date.format(TimestampFormat::DateTime, &mut text).is_ok();
    let read = std::str::from_utf8(&text).ok().filter(|_| written).and_then(|text| text.parse().ok());
    read.unwrap_or(Timestamp::MAX)
}

/// An account's buckets that are still to be looked at, and the one that is.
#[derive(Debug)]
struct Turn {
    names: VecDeque<String>,
    sweep: Option<Sweep>,
}

impl Turn {
    /// Goes on with what the account's rules say; whether there is more. A bucket whose rules
    /// cannot be followed is told in the log and holds up no other.
    fn take(&mut self, disk: &Disk, now: Timestamp, files: usize) -> bool {
        for _ in 0..BUCKETS_OF_TURN {
            if let Some(mut sweep) = self.sweep.take() {
                let name = sweep.name().to_owned();
                if let Some(true) = told(&name, || sweep.step(disk, files)) {
                    self.sweep = Some(sweep);
                }
                return self.sweep.is_some() || !self.names.is_empty();
            }
            let Some(name) = self.names.pop_front() else { return false };
            self.sweep = told(&name, || Sweep::begin(disk, &name, now)).flatten();
        }
        true
    }
}

/// `None`, after a line in the log, when it fails.
fn told<T>(bucket: &str, work: impl FnOnce() -> s3s::S3Result<T>) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => return Some(done),
        Ok(Err(error)) => tracing::warn!(bucket, %error, "a lifecycle rule could not be followed"),
        Err(_) => tracing::error!(bucket, "a panic in lifecycle rules"),
    }
    None
}

impl ObjectStorage {
    /// Removes what has expired by `now` according to the buckets' own rules. Accounts take turns.
    pub async fn expire(&self, now: jiff::Timestamp) -> Result<(), StorageError> {
        let mut turns = turns(&self.disk);
        while let Some(mut turn) = turns.pop_front() {
            let disk = self.disk.clone();
            let take = move || {
                let more = turn.take(&disk, now, FILES_OF_TURN);
                Ok::<_, StorageError>(more.then_some(turn))
            };
            turns.extend(blocking(take).await?);
        }
        Ok(())
    }
}

fn turns(disk: &Disk) -> VecDeque<Turn> {
    disk.index.by_account().into_iter().map(|names| Turn { names: names.into(), sweep: None }).collect()
}

#[cfg(test)]
#[path = "expiry_tests.rs"]
mod tests;
