//! The operations that write.

use hearth_api::Timestamp;
use hearth_records::{CreatedLogStream, EVENT_OVERHEAD_BYTES, MissingLog};

use hearth_service::validate::violation;
use hearth_service::{Call, Error};

use crate::model::{
    ChangeRequest, InputLogEvent, PutLogEventsRequest, PutLogEventsResponse, RejectedLogEventsInfo,
};
use crate::reading::sequence_token;
use crate::{Logs, exists, invalid, missing, tags};

const HOUR: i64 = 60 * 60 * 1000;
const DAY: i64 = 24 * HOUR;
/// Milliseconds that an event may lie in the past.
const MAXIMUM_AGE: i64 = 14 * DAY;
/// Milliseconds that an event may lie in the future.
const MAXIMUM_ADVANCE: i64 = 2 * HOUR;
const MAXIMUM_BATCH_BYTES: u64 = 1_048_576;

/// Days that `retentionInDays` may be ("PutRetentionPolicy", CloudWatch Logs API reference).
pub const RETENTIONS: [u32; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

impl Logs {
    pub(super) async fn create_log_group(&self, call: &Call, request: ChangeRequest) -> Result<(), Error> {
        let tags = request.tags.unwrap_or_default();
        tags::refuse_reserved(&tags)?;
        let unserved = [
            (request.kms_key_id.is_some(), "kmsKeyId"),
            (request.log_group_class.is_some_and(|class| class != "STANDARD"), "logGroupClass"),
            (request.deletion_protection_enabled, "deletionProtectionEnabled"),
        ];
        if let Some((_, member)) = unserved.iter().find(|(given, _)| *given) {
            return Err(invalid(format!("Log groups with this {member} are not served here.")));
        }
        let created = self.store.create_log_group(&call.caller().account, group(call), &tags).await?;
        if created { Ok(()) } else { Err(exists("group")) }
    }

    pub(super) async fn create_log_stream(&self, call: &Call, _: ChangeRequest) -> Result<(), Error> {
        match self.store.create_log_stream(&call.caller().account, group(call), stream(call)).await? {
            CreatedLogStream::Created => Ok(()),
            CreatedLogStream::Exists => Err(exists("stream")),
            CreatedLogStream::NoGroup => Err(missing(MissingLog::Group)),
        }
    }

    pub(super) async fn delete_log_group(&self, call: &Call, _: ChangeRequest) -> Result<(), Error> {
        let deleted = self.store.delete_log_group(&call.caller().account, group(call)).await?;
        if deleted { Ok(()) } else { Err(missing(MissingLog::Group)) }
    }

    pub(super) async fn delete_log_stream(&self, call: &Call, _: ChangeRequest) -> Result<(), Error> {
        let account = &call.caller().account;
        self.store.delete_log_stream(account, group(call), stream(call)).await?.map_err(missing)
    }

    pub(super) async fn put_retention_policy(
        &self,
        call: &Call,
        request: ChangeRequest,
    ) -> Result<(), Error> {
        let days = request.retention_in_days.and_then(|days| u32::try_from(days).ok());
        let days = days.filter(|days| RETENTIONS.contains(days)).ok_or_else(|| {
            let rule = format!("Member must satisfy enum value set: {RETENTIONS:?}");
            invalid(violation(request.retention_in_days.unwrap_or_default(), "retentionInDays", &rule))
        })?;
        self.set_retention(call, Some(days)).await
    }

    pub(super) async fn delete_retention_policy(&self, call: &Call, _: ChangeRequest) -> Result<(), Error> {
        self.set_retention(call, None).await
    }

    async fn set_retention(&self, call: &Call, days: Option<u32>) -> Result<(), Error> {
        let set = self.store.set_log_retention(&call.caller().account, group(call), days).await?;
        if set { Ok(()) } else { Err(missing(MissingLog::Group)) }
    }

    /// Events that are too old or too new are left out, which is no error.
    pub(super) async fn put_log_events(
        &self,
        call: &Call,
        request: PutLogEventsRequest,
    ) -> Result<PutLogEventsResponse, Error> {
        let events = batch(request.log_events.unwrap_or_default())?;
        let (account, group, stream) = (&call.caller().account, group(call), stream(call));
        let record = self.store.log_group(account, group).await?;
        let record = record.ok_or_else(|| missing(MissingLog::Group))?;
        let now = Timestamp::now();
        let times: Vec<i64> = events.iter().map(|(time, _)| time.as_millis()).collect();
        let (accepted, rejected) = accepted(&times, now.as_millis(), record.retention_days);
        self.store.put_log_events(account, group, stream, &events[accepted]).await?.map_err(missing)?;
        let rejected_log_events_info = (rejected != RejectedLogEventsInfo::default()).then_some(rejected);
        Ok(PutLogEventsResponse { next_sequence_token: sequence_token(now), rejected_log_events_info })
    }
}

/// The name of the call's group, which was checked.
fn group(call: &Call) -> &str {
    call.input().required("logGroupName")
}

/// The name of the call's stream, which was checked.
fn stream(call: &Call) -> &str {
    call.input().required("logStreamName")
}

/// The events of a batch that keeps the service's rules on size, order and span.
fn batch(events: Vec<InputLogEvent>) -> Result<Vec<(Timestamp, String)>, Error> {
    let events: Vec<(i64, String)> = events
        .into_iter()
        .map(|event| (event.timestamp.unwrap_or_default(), event.message.unwrap_or_default()))
        .collect();
    let bytes: u64 = events.iter().map(|(_, message)| message.len() as u64 + EVENT_OVERHEAD_BYTES).sum();
    if bytes > MAXIMUM_BATCH_BYTES {
        return Err(invalid(format!(
            "Upload too large: {bytes} bytes exceeds limit of {MAXIMUM_BATCH_BYTES}"
        )));
    }
    if !events.is_sorted_by_key(|(time, _)| *time) {
        return Err(invalid("Log events in a single PutLogEvents request must be in chronological order."));
    }
    if let [(first, _), .., (last, _)] = events.as_slice()
        && last.saturating_sub(*first) > DAY
    {
        return Err(invalid(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
        ));
    }
    Ok(events.into_iter().map(|(time, message)| (Timestamp::from_millis(time), message)).collect())
}

/// Which events of a batch are stored at `now`, and what is said of the others.
fn accepted(
    times: &[i64],
    now: i64,
    retention_days: Option<u32>,
) -> (std::ops::Range<usize>, RejectedLogEventsInfo) {
    let before = |moment: i64| times.partition_point(|time| *time < moment);
    let too_old = before(now - MAXIMUM_AGE);
    let expired = retention_days.map_or(0, |days| before(now - i64::from(days) * DAY));
    let end = before(now + MAXIMUM_ADVANCE + 1);
    let rejected = RejectedLogEventsInfo {
        too_new_log_event_start_index: Some(end).filter(|end| *end < times.len()),
        too_old_log_event_end_index: Some(too_old).filter(|count| *count > 0),
        // The service counts an event once, as too old before it counts it as expired.
        expired_log_event_end_index: Some(expired).filter(|count| *count > too_old),
    };
    (too_old.max(expired).min(end)..end, rejected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(timestamp: i64, message: &str) -> InputLogEvent {
        InputLogEvent { timestamp: Some(timestamp), message: Some(message.to_owned()) }
    }

    #[test]
    fn batches_are_in_order_within_a_day_and_a_mebibyte() {
        let message = |events| batch(events).map(|events| events.len()).map_err(|refused| refused.message);
        assert_eq!(message(vec![event(1, "a"), event(1, "b"), event(1 + DAY, "c")]), Ok(3));
        assert!(message(vec![event(2, "a"), event(1, "b")]).unwrap_err().contains("chronological order"));
        assert!(message(vec![event(0, "a"), event(1 + DAY, "b")]).unwrap_err().contains("24 hours"));
        let largest = "x".repeat(1_048_576 - 26);
        assert_eq!(message(vec![event(1, &largest)]), Ok(1));
        let larger = message(vec![event(1, &(largest + "x"))]).unwrap_err();
        assert_eq!(larger, "Upload too large: 1048577 bytes exceeds limit of 1048576");
    }

    #[test]
    fn what_is_too_old_expired_or_too_new_is_left_out() {
        let now = 100 * DAY;
        let info = |old, expired, new| RejectedLogEventsInfo {
            too_old_log_event_end_index: old,
            expired_log_event_end_index: expired,
            too_new_log_event_start_index: new,
        };
        let at = |offsets: &[i64]| offsets.iter().map(|offset| now + offset).collect::<Vec<_>>();
        assert_eq!(accepted(&at(&[-MAXIMUM_AGE, 0, 2 * HOUR]), now, None), (0..3, info(None, None, None)));
        let times = at(&[-MAXIMUM_AGE - 1, -MAXIMUM_AGE, 0]);
        assert_eq!(accepted(&times, now, None), (1..3, info(Some(1), None, None)));
        assert_eq!(accepted(&times, now, Some(3)), (2..3, info(Some(1), Some(2), None)));
        assert_eq!(accepted(&at(&[0, 2 * HOUR + 1]), now, Some(1)), (0..1, info(None, None, Some(1))));
        assert_eq!(accepted(&at(&[3 * HOUR]), now, None), (0..0, info(None, None, Some(0))));
        assert_eq!(accepted(&at(&[-99 * DAY]), now, Some(1)), (1..1, info(Some(1), None, None)));
    }
}
