//! Requests and answers (service model `logs` 2014-03-28); times are milliseconds since 1970.

use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DescribeLogGroupsRequest {
    pub(super) log_group_name_prefix: Option<String>,
    pub(super) log_group_name_pattern: Option<String>,
    pub(super) next_token: Option<String>,
    pub(super) limit: Option<u32>,
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
    pub(super) limit: Option<u32>,
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
    pub(super) last_event_timestamp: Option<i64>,
    pub(super) arn: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct GetLogEventsRequest {
    pub(super) log_group_name: Option<String>,
    pub(super) log_group_identifier: Option<String>,
    pub(super) log_stream_name: String,
    pub(super) start_time: Option<i64>,
    pub(super) end_time: Option<i64>,
    pub(super) next_token: Option<String>,
    pub(super) limit: Option<u32>,
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
    pub(super) log_stream_names: Vec<String>,
    pub(super) log_stream_name_prefix: Option<String>,
    pub(super) start_time: Option<i64>,
    pub(super) end_time: Option<i64>,
    pub(super) filter_pattern: Option<String>,
    pub(super) next_token: Option<String>,
    pub(super) limit: Option<u32>,
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
