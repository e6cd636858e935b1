//! The operations that read.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearth_api::{AccountId, Timestamp};
use hearth_records::{
    EventOrder, LogEvent, LogGroupRecord, LogPosition, LogQuery, LogStreamRecord, MissingLog, StreamOrder,
    StreamPosition, StreamQuery,
};

use super::constraints::{group_text, is_group_name, is_stream_name};
use super::model::{
    DescribeLogGroupsRequest, DescribeLogGroupsResponse, DescribeLogStreamsRequest,
    DescribeLogStreamsResponse, GetLogEventsRequest, GetLogEventsResponse, LogGroup, LogStream, OrderBy,
    OutputLogEvent,
};
use super::{Logs, invalid, missing};
use crate::json::{Refusal, Violations};

const MAXIMUM_DESCRIBED: u32 = 50;
/// Events of a page.
pub(super) const MAXIMUM_EVENTS: u32 = 10_000;

impl Logs {
    pub(super) async fn describe_log_groups(
        &self,
        account: &AccountId,
        request: DescribeLogGroupsRequest,
    ) -> Result<DescribeLogGroupsResponse, Refusal> {
        let prefix = request.log_group_name_prefix.as_deref();
        let pattern = request.log_group_name_pattern.as_deref();
        let mut violations = Violations::default();
        violations.group_prefix(prefix);
        violations.group_pattern(pattern);
        let limit = limit(&mut violations, request.limit, MAXIMUM_DESCRIBED);
        violations.check()?;
        if prefix.is_some() && pattern.is_some() {
            return Err(invalid("Only one of logGroupNamePrefix and logGroupNamePattern may be given."));
        }
        let after = request.next_token.as_deref().map(read_group_token).transpose()?.unwrap_or_default();
        let (prefix, pattern) = (prefix.unwrap_or(""), pattern.unwrap_or(""));
        let _turn = self.turns.take(account).await?;
        let mut groups = self.store.log_groups(account, prefix, pattern, &after, limit + 1).await?;
        let more = groups.len() > limit as usize;
        groups.truncate(limit as usize);
        let next_token = groups.last().filter(|_| more).map(|group| URL_SAFE_NO_PAD.encode(&group.name));
        let log_groups = groups.into_iter().map(|group| self.group(account, group)).collect();
        Ok(DescribeLogGroupsResponse { log_groups, next_token })
    }

    pub(super) async fn describe_log_streams(
        &self,
        account: &AccountId,
        request: DescribeLogStreamsRequest,
    ) -> Result<DescribeLogStreamsResponse, Refusal> {
        let mut violations = Violations::default();
        let group = group_text(
            &mut violations,
            request.log_group_name.as_deref(),
            request.log_group_identifier.as_deref(),
        )?;
        violations.stream_prefix(request.log_stream_name_prefix.as_deref());
        let limit = limit(&mut violations, request.limit, MAXIMUM_DESCRIBED);
        violations.check()?;
        let prefix = request.log_stream_name_prefix.as_deref();
        let order = match request.order_by {
            OrderBy::LogStreamName => StreamOrder::Name { prefix: prefix.unwrap_or("") },
            OrderBy::LastEventTime if prefix.is_some() => {
                return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
            }
            OrderBy::LastEventTime => StreamOrder::LastEvent,
        };
        let after = request
            .next_token
            .as_deref()
            .map(|token| read_stream_token(token, request.order_by))
            .transpose()?;
        let query = StreamQuery {
            account,
            group: &self.group_name(account, group)?,
            order,
            descending: request.descending,
            after: after.as_ref().map(|(millis, name)| StreamPosition { millis: *millis, name }),
            limit: limit + 1,
        };
        let turn = self.turns.take(account).await?;
        let mut streams = self.store.log_streams(&query).await?.ok_or_else(|| missing(MissingLog::Group))?;
        drop(turn);
        let more = streams.len() > limit as usize;
        streams.truncate(limit as usize);
        let next_token = streams.last().filter(|_| more).map(|last| stream_token(last, request.order_by));
        let log_streams = streams.into_iter().map(|stream| self.stream(account, stream)).collect();
        Ok(DescribeLogStreamsResponse { log_streams, next_token })
    }

    /// Tokens are `f/<time>/<id>` and `b/<time>/<id>`: forward from behind, or backward from
    /// before, an event. At either end the token comes back unchanged, which is how clients know
    /// that there is nothing more.
    pub(super) async fn get_log_events(
        &self,
        account: &AccountId,
        request: GetLogEventsRequest,
    ) -> Result<GetLogEventsResponse, Refusal> {
        let mut violations = Violations::default();
        let group = group_text(
            &mut violations,
            request.log_group_name.as_deref(),
            request.log_group_identifier.as_deref(),
        )?;
        violations.stream_name(request.log_stream_name.as_deref());
        violations.times(request.start_time, request.end_time);
        let limit = limit(&mut violations, request.limit, MAXIMUM_EVENTS);
        violations.check()?;
        let direction = match request.next_token.as_deref() {
            Some(token) => Direction::parse(token)?,
            None if request.start_from_head => Direction::Forward(LogPosition::START),
            None => Direction::Backward(LogPosition::END),
        };
        let (start, end) = range(request.start_time, request.end_time);
        let (after, before, order) = match direction {
            Direction::Forward(after) => (after.max(start), end, EventOrder::Oldest),
            Direction::Backward(before) => (start, before.min(end), EventOrder::Newest),
        };
        let query = LogQuery {
            account,
            group: &self.group_name(account, group)?,
            stream: request.log_stream_name.as_deref(),
            after,
            before,
            order,
            limit,
        };
        let turn = self.turns.take(account).await?;
        let events = self.store.log_events(&query).await?.map_err(missing)?.events;
        drop(turn);
        let (forward, backward) = direction.tokens(&events);
        let events = events
            .into_iter()
            .map(|event| OutputLogEvent {
                timestamp: event.timestamp.as_millis(),
                ingestion_time: event.ingested_at.as_millis(),
                message: event.message,
            })
            .collect();
        Ok(GetLogEventsResponse { events, next_forward_token: forward, next_backward_token: backward })
    }

    fn plain_arn(&self, account: &AccountId, name: &str) -> String {
        format!("arn:aws:logs:{}:{account}:log-group:{name}", self.region)
    }

    fn group(&self, account: &AccountId, record: LogGroupRecord) -> LogGroup {
        LogGroup {
            arn: format!("{}:*", self.plain_arn(account, &record.name)),
            plain_arn: self.plain_arn(account, &record.name),
            creation_time: record.created_at.as_millis(),
            name: record.name,
            class: "STANDARD",
            retention_in_days: record.retention_days,
            stored_bytes: record.stored_bytes,
            metric_filter_count: 0,
        }
    }

    fn stream(&self, account: &AccountId, record: LogStreamRecord) -> LogStream {
        LogStream {
            arn: format!("{}:log-stream:{}", self.plain_arn(account, &record.group), record.name),
            name: record.name,
            creation_time: record.created_at.as_millis(),
            first_event_timestamp: record.first_event_at.map(Timestamp::as_millis),
            last_event_timestamp: record.last_event_at.map(Timestamp::as_millis),
            last_ingestion_time: record.last_ingested_at.map(Timestamp::as_millis),
            upload_sequence_token: sequence_token(record.last_ingested_at.unwrap_or(record.created_at)),
            stored_bytes: 0,
        }
    }
}

/// A token that clients of old times pass on; nobody looks at it.
pub(super) fn sequence_token(moment: Timestamp) -> String {
    format!("{:056}", moment.as_millis())
}

/// The events from `start` on and before `end`.
pub(super) fn range(start: Option<i64>, end: Option<i64>) -> (LogPosition, LogPosition) {
    (
        start.map_or(LogPosition::START, |millis| LogPosition { millis, id: 0 }),
        end.map_or(LogPosition::END, |millis| LogPosition { millis, id: 0 }),
    )
}

/// Which way GetLogEvents reads: from behind an event, or from before one.
#[derive(Debug, Clone, Copy)]
enum Direction {
    Forward(LogPosition),
    Backward(LogPosition),
}

impl Direction {
    fn parse(token: &str) -> Result<Self, Refusal> {
        let (way, position) = token.split_once('/').ok_or_else(bad_token)?;
        let position = read_position(position).ok_or_else(bad_token)?;
        match way {
            "f" => Ok(Self::Forward(position)),
            "b" => Ok(Self::Backward(position)),
            _ => Err(bad_token()),
        }
    }

    /// The forward and the backward token of a page that was read this way.
    fn tokens(self, events: &[LogEvent]) -> (String, String) {
        let (after, before) = match (events, self) {
            ([first, ..], _) => (events[events.len() - 1].position(), first.position()),
            ([], Self::Forward(after)) => (after, LogPosition { id: after.id.saturating_add(1), ..after }),
            // An empty stream: whatever comes is new.
            ([], Self::Backward(LogPosition::END)) => (LogPosition::START, LogPosition::END),
            ([], Self::Backward(before)) => (LogPosition { id: before.id - 1, ..before }, before),
        };
        (format!("f/{}/{}", after.millis, after.id), format!("b/{}/{}", before.millis, before.id))
    }
}

pub(super) fn read_position(text: &str) -> Option<LogPosition> {
    let (millis, id) = text.split_once('/')?;
    Some(LogPosition { millis: millis.parse().ok()?, id: id.parse().ok().filter(|id| *id >= 0)? })
}

/// The name of the last group of the page before.
fn read_group_token(token: &str) -> Result<String, Refusal> {
    let name = URL_SAFE_NO_PAD.decode(token).ok().and_then(|name| String::from_utf8(name).ok());
    name.filter(|name| is_group_name(name)).ok_or_else(bad_token)
}

/// Where a page of streams ends: `n/<name>` in the order of names, `<time>/<name>` in that
/// of the latest events.
fn stream_token(last: &LogStreamRecord, order: OrderBy) -> String {
    let name = URL_SAFE_NO_PAD.encode(&last.name);
    match order {
        OrderBy::LogStreamName => format!("n/{name}"),
        OrderBy::LastEventTime => format!("{}/{name}", last.last_event_at.map_or(0, Timestamp::as_millis)),
    }
}

/// The time and the name of the last stream of the page before.
fn read_stream_token(token: &str, order: OrderBy) -> Result<(i64, String), Refusal> {
    let (millis, name) = token.split_once('/').ok_or_else(bad_token)?;
    let millis = match order {
        OrderBy::LogStreamName => (millis == "n").then_some(0),
        OrderBy::LastEventTime => millis.parse().ok(),
    };
    let name = URL_SAFE_NO_PAD.decode(name).ok().and_then(|name| String::from_utf8(name).ok());
    let name = name.filter(|name| is_stream_name(name));
    millis.zip(name).ok_or_else(bad_token)
}

pub(super) fn bad_token() -> Refusal {
    invalid("The specified nextToken is invalid.")
}

pub(super) fn limit(violations: &mut Violations, wanted: Option<i64>, maximum: u32) -> u32 {
    violations.range("limit", wanted, (1, maximum.into()));
    wanted.map_or(maximum, |wanted| wanted.clamp(1, maximum.into()) as u32)
}
