//! Lifecycle rules: what a rule may say. What has expired by them goes in `expiry`; there is one
//! storage class, so transitions are kept and nothing comes of them.

use std::collections::BTreeSet;

use s3s::dto::{BucketLifecycleConfiguration, ExpirationStatus, LifecycleRule};
use s3s::{S3Result, s3_error};

use super::expiry::Filter;

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
    if abort.is_some() && Filter::of(rule).has_tags() {
        return Err(s3_error!(
            InvalidRequest,
            "AbortIncompleteMultipartUpload cannot be specified with Tags."
        ));
    }
    Ok(())
}
