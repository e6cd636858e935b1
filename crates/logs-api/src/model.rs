//! Requests and answers (service model `logs` 2014-03-28); times are milliseconds since 1970.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DescribeLogGroupsRequest {
    pub(super) log_group_name_prefix: Option<String>,
    pub(super) log_group_name_pattern: Option<String>,
    pub(super) next_token: Option<String>,
    pub(super) limit: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DescribeLogGroupsResponse {
    pub(super) log_groups: Vec<LogGroup>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogGroup {
    #[serde(rename = "logGroupName")]
    pub(super) name: String,
    pub(super) creation_time: i64,
    pub(super) arn: String,
    /// The ARN without `:*`.
    #[serde(rename = "logGroupArn")]
    pub(super) plain_arn: String,
    #[serde(rename = "logGroupClass")]
    pub(super) class: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retention_in_days: Option<u32>,
    pub(super) stored_bytes: u64,
    /// There are no metric filters.
    pub(super) metric_filter_count: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DescribeLogStreamsRequest {
    pub(super) log_group_name: Option<String>,
    pub(super) log_group_identifier: Option<String>,
    pub(super) log_stream_name_prefix: Option<String>,
    pub(super) order_by: OrderBy,
    pub(super) descending: bool,
    pub(super) next_token: Option<String>,
    pub(super) limit: Option<i64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum OrderBy {
    #[default]
    LogStreamName,
    LastEventTime,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DescribeLogStreamsResponse {
    pub(super) log_streams: Vec<LogStream>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogStream {
    #[serde(rename = "logStreamName")]
    pub(super) name: String,
    pub(super) creation_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_event_timestamp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_event_timestamp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_ingestion_time: Option<i64>,
    pub(super) upload_sequence_token: String,
    pub(super) arn: String,
    /// Always 0, as the service has it since 2019.
    pub(super) stored_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct GetLogEventsRequest {
    pub(super) log_group_name: Option<String>,
    pub(super) log_group_identifier: Option<String>,
    pub(super) log_stream_name: Option<String>,
    pub(super) start_time: Option<i64>,
    pub(super) end_time: Option<i64>,
    pub(super) next_token: Option<String>,
    pub(super) limit: Option<i64>,
    pub(super) start_from_head: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GetLogEventsResponse {
    pub(super) events: Vec<OutputLogEvent>,
    pub(super) next_forward_token: String,
    pub(super) next_backward_token: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutputLogEvent {
    pub(super) timestamp: i64,
    pub(super) message: String,
    pub(super) ingestion_time: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FilterLogEventsRequest {
    pub(super) log_group_name: Option<String>,
    pub(super) log_group_identifier: Option<String>,
    pub(super) log_stream_names: Option<Vec<String>>,
    pub(super) log_stream_name_prefix: Option<String>,
    pub(super) start_time: Option<i64>,
    pub(super) end_time: Option<i64>,
    pub(super) filter_pattern: Option<String>,
    pub(super) next_token: Option<String>,
    pub(super) limit: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FilterLogEventsResponse {
    pub(super) events: Vec<FilteredEvent>,
    /// Always empty, as the service has it since 2019.
    pub(super) searched_log_streams: [(); 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FilteredEvent {
    pub(super) log_stream_name: String,
    pub(super) timestamp: i64,
    pub(super) message: String,
    pub(super) ingestion_time: i64,
    pub(super) event_id: String,
}

/// Members of the operations that make and delete groups and streams and set retentions.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ChangeRequest {
    pub(super) log_group_name: Option<String>,
    pub(super) log_stream_name: Option<String>,
    pub(super) retention_in_days: Option<i64>,
    pub(super) tags: Option<BTreeMap<String, String>>,
    pub(super) kms_key_id: Option<String>,
    pub(super) log_group_class: Option<String>,
    pub(super) deletion_protection_enabled: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_field_names, reason = "the members of the service model")]
pub(super) struct PutLogEventsRequest {
    pub(super) log_group_name: Option<String>,
    pub(super) log_stream_name: Option<String>,
    pub(super) log_events: Option<Vec<InputLogEvent>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct InputLogEvent {
    pub(super) timestamp: Option<i64>,
    pub(super) message: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PutLogEventsResponse {
    pub(super) next_sequence_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rejected_log_events_info: Option<RejectedLogEventsInfo>,
}

/// Which events of a batch were left out: those before the ends and from the start on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the members of the service model")]
pub(super) struct RejectedLogEventsInfo {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) too_new_log_event_start_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) too_old_log_event_end_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expired_log_event_end_index: Option<usize>,
}

/// Members of the operations on tags; the older ones name the group, the newer ones its ARN.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TagsRequest {
    pub(super) resource_arn: Option<String>,
    pub(super) log_group_name: Option<String>,
    /// A map when tags are set, a list of keys for UntagLogGroup.
    pub(super) tags: Option<GivenTags>,
    pub(super) tag_keys: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum GivenTags {
    Tags(BTreeMap<String, String>),
    Keys(Vec<String>),
}

#[derive(Debug, Serialize)]
pub(super) struct TagsResponse {
    pub(super) tags: BTreeMap<String, String>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_field_names, reason = "the members of the service model")]
pub(super) struct StartLiveTailRequest {
    pub(super) log_group_identifiers: Option<Vec<String>>,
    pub(super) log_stream_names: Option<Vec<String>>,
    pub(super) log_stream_name_prefixes: Option<Vec<String>>,
    pub(super) log_event_filter_pattern: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionStart {
    pub(super) request_id: String,
    pub(super) session_id: String,
    pub(super) log_group_identifiers: Vec<String>,
    pub(super) log_stream_names: Vec<String>,
    pub(super) log_stream_name_prefixes: Vec<String>,
    pub(super) log_event_filter_pattern: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionUpdate {
    pub(super) session_metadata: SessionMetadata,
    pub(super) session_results: Vec<SessionResult>,
}

#[derive(Debug, Serialize)]
pub(super) struct SessionMetadata {
    /// Whether there were more events than are shown.
    pub(super) sampled: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionResult {
    pub(super) log_stream_name: String,
    pub(super) log_group_identifier: String,
    pub(super) message: String,
    pub(super) timestamp: i64,
    pub(super) ingestion_time: i64,
}
