//! Lifecycle rules: what a rule may say, and what has expired by it. Objects, former versions, delete markers and
//! unfinished uploads go; there is one storage class, so transitions are kept and nothing comes of them.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::{Span, Timestamp, ToSpan as _, tz::TimeZone};
use s3s::dto::{
    BucketLifecycleConfiguration, ExpirationStatus, LifecycleRule, LifecycleRuleFilter, ObjectIdentifier,
    Tag, TimestampFormat,
};
use s3s::{S3Result, s3_error};

use super::bucket::Bucket;
use super::disk::{Disk, ObjectRecord, blocking};
use super::upload::uploads_of;
use super::versions::{ListedVersion, shown};
use super::{ObjectStorage, StorageError, stored};

const MAXIMUM_RULES: usize = 1000;
const MAXIMUM_ID_CHARACTERS: usize = 255;

/// Refuses rules that S3 does not take, and gives those an id that have none.
pub(super) fn check(setting: &mut BucketLifecycleConfiguration) -> S3Result<()> {
    let malformed = |what: &str| s3_error!(MalformedXML, "The lifecycle configuration is not valid: {what}");
    if setting.rules.is_empty() || setting.rules.len() > MAXIMUM_RULES {
        return Err(malformed("there must be 1 to 1000 rules."));
    }
    let mut ids = BTreeSet::new();
    for rule in &mut setting.rules {
        let id = rule.id.get_or_insert_with(|| uuid::Uuid::new_v4().to_string()).clone();
        if id.chars().count() > MAXIMUM_ID_CHARACTERS {
            return Err(s3_error!(InvalidArgument, "ID length should not exceed allowed limit of 255"));
        }
        if !ids.insert(id) {
            return Err(s3_error!(
                InvalidArgument,
                "Rule ID must be unique. Found same ID for more than one rule"
            ));
        }
        if ![ExpirationStatus::ENABLED, ExpirationStatus::DISABLED].contains(&rule.status.as_str()) {
            return Err(malformed("Status must be Enabled or Disabled."));
        }
        if rule.prefix.is_some() == rule.filter.is_some() {
            return Err(malformed("a rule must have a Filter or, in the old form, a Prefix."));
        }
        check_actions(rule)?;
    }
    Ok(())
}

fn check_actions(rule: &LifecycleRule) -> S3Result<()> {
    let expiration = rule.expiration.as_ref();
    let noncurrent = rule.noncurrent_version_expiration.as_ref();
    let abort = rule.abort_incomplete_multipart_upload.as_ref();
    let transitions = rule.transitions.as_ref().is_some_and(|list| !list.is_empty())
        || rule.noncurrent_version_transitions.as_ref().is_some_and(|list| !list.is_empty());
    if expiration.is_none() && noncurrent.is_none() && abort.is_none() && !transitions {
        return Err(s3_error!(
            InvalidRequest,
            "At least one action needs to be specified in a rule of the lifecycle configuration."
        ));
    }
    let days = [
        expiration.and_then(|it| it.days),
        noncurrent.and_then(|it| it.noncurrent_days),
        abort.and_then(|it| it.days_after_initiation),
    ];
    if days.into_iter().flatten().any(|days| days < 1) {
        return Err(s3_error!(InvalidArgument, "The number of days must be a positive integer."));
    }
    if let Some(expiration) = expiration {
        let given = usize::from(expiration.days.is_some())
            + usize::from(expiration.date.is_some())
            + usize::from(expiration.expired_object_delete_marker.is_some());
        if given != 1 {
            return Err(s3_error!(
                MalformedXML,
                "Expiration must have exactly one of Days, Date and ExpiredObjectDeleteMarker."
            ));
        }
    }
    let filter = Filter::of(rule);
    if abort.is_some() && !filter.tags.is_empty() {
        return Err(s3_error!(
            InvalidRequest,
            "AbortIncompleteMultipartUpload cannot be specified with Tags."
        ));
    }
    Ok(())
}

/// Which objects a rule is about.
#[derive(Debug, Default)]
struct Filter<'a> {
    prefix: &'a str,
    tags: Vec<&'a Tag>,
    larger_than: Option<i64>,
    smaller_than: Option<i64>,
}

impl<'a> Filter<'a> {
    fn of(rule: &'a LifecycleRule) -> Self {
        let text = |prefix: &'a Option<String>| prefix.as_deref().unwrap_or_default();
        match &rule.filter {
            None => Self { prefix: text(&rule.prefix), ..Self::default() },
            Some(LifecycleRuleFilter { and: Some(and), .. }) => Self {
                prefix: text(&and.prefix),
                tags: and.tags.iter().flatten().collect(),
                larger_than: and.object_size_greater_than,
                smaller_than: and.object_size_less_than,
            },
            Some(filter) => Self {
                prefix: text(&filter.prefix),
                tags: filter.tag.iter().collect(),
                larger_than: filter.object_size_greater_than,
                smaller_than: filter.object_size_less_than,
            },
        }
    }

    fn covers(&self, record: &ObjectRecord) -> bool {
        let tagged = |tag: &&Tag| {
            let value = tag.key.as_ref().and_then(|key| record.tags.get(key));
            value.is_some_and(|value| value == tag.value.as_deref().unwrap_or_default())
        };
        let size = i64::try_from(record.size).unwrap_or(i64::MAX);
        record.key.starts_with(self.prefix)
            && self.tags.iter().all(tagged)
            && self.larger_than.is_none_or(|limit| size > limit)
            && self.smaller_than.is_none_or(|limit| size < limit)
    }
}

/// Whether `days` have gone by since then; S3 waits for the next midnight. Days beyond the calendar never have.
fn is_over(since_ms: i64, days: i32, now: Timestamp) -> bool {
    let due = Timestamp::from_millisecond(since_ms).and_then(|since| {
        let midnight =
            since.to_zoned(TimeZone::UTC).checked_add(Span::new().try_days(days)?)?.start_of_day()?;
        Ok(midnight.checked_add(1.day())?.timestamp())
    });
    due.is_ok_and(|due| due <= now)
}

impl ObjectStorage {
    /// Removes what has expired by `now` according to the buckets' own rules. A bucket whose rules cannot be followed is
    /// told in the log and holds up no other.
    pub async fn expire(&self, now: jiff::Timestamp) -> Result<(), StorageError> {
        let disk = self.disk.clone();
        blocking(move || {
            for bucket in disk.buckets()? {
                let Some(xml) = &bucket.record.lifecycle else { continue };
                let expire = || {
                    stored::read::<BucketLifecycleConfiguration>(xml)
                        .and_then(|setting| expire_in(&disk, &bucket, &setting, now))
                };
                match catch_unwind(AssertUnwindSafe(expire)) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(bucket = bucket.name, %error, "a lifecycle rule could not be followed");
                    }
                    Err(_) => tracing::error!(bucket = bucket.name, "a panic in lifecycle rules"),
                }
            }
            Ok(())
        })
        .await
    }
}

fn expire_in(
    disk: &Disk,
    bucket: &Bucket,
    setting: &BucketLifecycleConfiguration,
    now: Timestamp,
) -> S3Result<()> {
    let enabled = |rule: &&LifecycleRule| rule.status.as_str() == ExpirationStatus::ENABLED;
    for rule in setting.rules.iter().filter(enabled) {
        let filter = Filter::of(rule);
        let abort = rule.abort_incomplete_multipart_upload.as_ref();
        if let Some(days) = abort.and_then(|abort| abort.days_after_initiation) {
            for (id, upload) in uploads_of(bucket)? {
                if upload.key.starts_with(filter.prefix) && is_over(upload.initiated_ms, days, now) {
                    disk.remove_upload(bucket, &bucket.uploads().join(id))?;
                }
            }
        }
        if rule.expiration.is_some() || rule.noncurrent_version_expiration.is_some() {
            let versions = disk.versions(bucket)?;
            for of_key in versions.chunk_by(|a, b| a.record.key == b.record.key) {
                for gone in expired(rule, &filter, of_key, now) {
                    let version = gone.version_id.as_deref();
                    let current = of_key.first().filter(|_| version.is_none()).map(|it| &it.record);
                    disk.delete_if(bucket, &gone.key, version, current)?;
                }
            }
        }
    }
    Ok(())
}

/// What a rule does to the versions of one key, the newest first.
fn expired(
    rule: &LifecycleRule,
    filter: &Filter<'_>,
    versions: &[ListedVersion],
    now: Timestamp,
) -> Vec<ObjectIdentifier> {
    let mut gone = Vec::new();
    let identify = |record: &ObjectRecord, version: Option<&str>| ObjectIdentifier {
        key: record.key.clone(),
        version_id: version.map(str::to_owned),
        ..Default::default()
    };
    let Some((latest, older)) = versions.split_first() else { return gone };
    if let Some(expiration) = &rule.expiration {
        let record = &latest.record;
        let date = expiration.date.as_ref().map(time_of);
        let due = expiration.days.is_some_and(|days| is_over(record.modified_ms, days, now))
            || date.is_some_and(|date| date <= now);
        if record.delete_marker {
            // A marker that hides nothing any more goes by either kind of rule.
            let lonely = older.is_empty() && record.key.starts_with(filter.prefix);
            if lonely && (due || expiration.expired_object_delete_marker == Some(true)) {
                gone.push(identify(record, Some(shown(record))));
            }
        } else if due && filter.covers(record) {
            gone.push(identify(record, None));
        }
    }
    if let Some(expiration) = &rule.noncurrent_version_expiration {
        let kept = usize::try_from(expiration.newer_noncurrent_versions.unwrap_or(0)).unwrap_or(0);
        let days = expiration.noncurrent_days.unwrap_or(1);
        for (index, version) in older.iter().enumerate().skip(kept) {
            // It is not current since the next one came.
            let since = versions[index].record.modified_ms;
            if is_over(since, days, now) && filter.covers(&version.record) {
                gone.push(identify(&version.record, Some(shown(&version.record))));
            }
        }
    }
    gone
}

/// A date that cannot be read never comes.
fn time_of(date: &s3s::dto::Timestamp) -> Timestamp {
    let mut text = Vec::new();
    let written = date.format(TimestampFormat::DateTime, &mut text).is_ok();
    let read = std::str::from_utf8(&text).ok().filter(|_| written).and_then(|text| text.parse().ok());
    read.unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_end_at_the_next_midnight() {
        let since: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        for (now, over) in
            [("2026-01-02T10:00:00Z", false), ("2026-01-02T23:59:59Z", false), ("2026-01-03T00:00:00Z", true)]
        {
            assert_eq!(is_over(since.as_millisecond(), 1, now.parse().unwrap()), over, "{now}");
        }
        assert!(!is_over(since.as_millisecond(), i32::MAX, Timestamp::MAX), "more than the calendar has");
    }
}
