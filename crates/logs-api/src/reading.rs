//! The operations that read.

use hearth_api::{AccountId, Timestamp};
use hearth_records::{
    EventOrder, LogEvent, LogGroupRecord, LogPosition, LogQuery, LogStreamRecord, MissingLog, StreamOrder,
    StreamPosition, StreamQuery,
};

use hearth_service::pages::{Page, Tokens};
use hearth_service::{Call, Error};

use crate::model::{
    DescribeLogGroupsRequest, DescribeLogGroupsResponse, DescribeLogStreamsRequest,
    DescribeLogStreamsResponse, GetLogEventsRequest, GetLogEventsResponse, LogGroup, LogStream, OrderBy,
    OutputLogEvent,
};
use crate::{Logs, invalid, missing};

const MAXIMUM_DESCRIBED: u32 = 50;
/// Events of a page.
pub(super) const MAXIMUM_EVENTS: u32 = 10_000;

impl Logs {
    pub(super) async fn describe_log_groups(
        &self,
        call: &Call,
        request: DescribeLogGroupsRequest,
    ) -> Result<DescribeLogGroupsResponse, Error> {
        let account = &call.caller().account;
        let prefix = request.log_group_name_prefix.as_deref();
        let pattern = request.log_group_name_pattern.as_deref();
        let limit = page_limit(request.limit, MAXIMUM_DESCRIBED);
        if prefix.is_some() && pattern.is_some() {
            return Err(invalid("Only one of logGroupNamePrefix and logGroupNamePattern may be given."));
        }
        let page =
            Page::new(self.tokens(call), limit, request.next_token.as_deref()).map_err(|_| bad_token())?;
        let after = page.after.clone().unwrap_or_default();
        let (prefix, pattern) = (prefix.unwrap_or(""), pattern.unwrap_or(""));
        let _turn = self.turns.take(account).await?;
        let mut groups = self.store.log_groups(account, prefix, pattern, &after, limit + 1).await?;
        let next_token = page.cut(&mut groups, |group| group.name.clone());
        let log_groups = groups.into_iter().map(|group| self.group(account, group)).collect();
        Ok(DescribeLogGroupsResponse { log_groups, next_token })
    }

    pub(super) async fn describe_log_streams(
        &self,
        call: &Call,
        request: DescribeLogStreamsRequest,
    ) -> Result<DescribeLogStreamsResponse, Error> {
        let account = &call.caller().account;
        let limit = page_limit(request.limit, MAXIMUM_DESCRIBED);
        let prefix = request.log_stream_name_prefix.as_deref();
        let order = match request.order_by {
            OrderBy::LogStreamName => StreamOrder::Name { prefix: prefix.unwrap_or("") },
            OrderBy::LastEventTime if prefix.is_some() => {
                return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
            }
            OrderBy::LastEventTime => StreamOrder::LastEvent,
        };
        let page =
            Page::new(self.tokens(call), limit, request.next_token.as_deref()).map_err(|_| bad_token())?;
        let after =
            page.after.as_deref().map(|after| read_stream(after).ok_or_else(bad_token)).transpose()?;
        let query = StreamQuery {
            account,
            group: &self.group_name(account, the_group(call))?,
            order,
            descending: request.descending,
            after: after.as_ref().map(|(millis, name)| StreamPosition { millis: *millis, name }),
            limit: limit + 1,
        };
        let turn = self.turns.take(account).await?;
        let mut streams = self.store.log_streams(&query).await?.ok_or_else(|| missing(MissingLog::Group))?;
        drop(turn);
        let next_token = page.cut(&mut streams, stream_key);
        let log_streams = streams.into_iter().map(|stream| self.stream(account, stream)).collect();
        Ok(DescribeLogStreamsResponse { log_streams, next_token })
    }

    /// Tokens begin with `f/` and `b/`: forward from behind, or backward from before, an event. At
    /// either end the token comes back unchanged, which is how clients know that there is nothing
    /// more.
    pub(super) async fn get_log_events(
        &self,
        call: &Call,
        request: GetLogEventsRequest,
    ) -> Result<GetLogEventsResponse, Error> {
        let account = &call.caller().account;
        let limit = page_limit(request.limit, MAXIMUM_EVENTS);
        let tokens = self.tokens_of_stream(call);
        let direction = match request.next_token.as_deref() {
            Some(token) => Direction::parse(token, &tokens)?,
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
            group: &self.group_name(account, the_group(call))?,
            stream: request.log_stream_name.as_deref(),
            after,
            before,
            order,
            limit,
        };
        let turn = self.turns.take(account).await?;
        let events = self.store.log_events(&query).await?.map_err(missing)?.events;
        drop(turn);
        let (forward, backward) = direction.tokens(&events, &tokens);
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

    /// Tokens of the list that a call asks for.
    pub(super) fn tokens(&self, call: &Call) -> Tokens {
        Tokens::new(self.page_key, call.scope(&["nextToken", "limit"]))
    }

    /// Tokens of a stream, which are good whatever else is asked for.
    fn tokens_of_stream(&self, call: &Call) -> Tokens {
        let varying = ["nextToken", "limit", "startTime", "endTime", "startFromHead"];
        Tokens::new(self.page_key, call.scope(&varying))
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
    fn parse(token: &str, tokens: &Tokens) -> Result<Self, Error> {
        let (way, position) = token.split_once('/').ok_or_else(bad_token)?;
        let place = tokens.open(position).map_err(|_| bad_token())?;
        let position = read_position(&place).ok_or_else(bad_token)?;
        match way {
            "f" => Ok(Self::Forward(position)),
            "b" => Ok(Self::Backward(position)),
            _ => Err(bad_token()),
        }
    }

    /// The forward and the backward token of a page that was read this way.
    fn tokens(self, events: &[LogEvent], tokens: &Tokens) -> (String, String) {
        let (after, before) = match (events, self) {
            ([first, ..], _) => (events[events.len() - 1].position(), first.position()),
            ([], Self::Forward(after)) => (after, LogPosition { id: after.id.saturating_add(1), ..after }),
            // An empty stream: whatever comes is new.
            ([], Self::Backward(LogPosition::END)) => (LogPosition::START, LogPosition::END),
            ([], Self::Backward(before)) => (LogPosition { id: before.id - 1, ..before }, before),
        };
        (format!("f/{}", tokens.lasting(&place(after))), format!("b/{}", tokens.lasting(&place(before))))
    }
}

/// How tokens name the place of an event.
pub(super) fn place(position: LogPosition) -> String {
    format!("{}/{}", position.millis, position.id)
}

pub(super) fn read_position(text: &str) -> Option<LogPosition> {
    let (millis, id) = text.split_once('/')?;
    Some(LogPosition { millis: millis.parse().ok()?, id: id.parse().ok().filter(|id| *id >= 0)? })
}

/// Where a page of streams ends: the time of its last event and its name.
fn stream_key(last: &LogStreamRecord) -> String {
    format!("{}/{}", last.last_event_at.map_or(0, Timestamp::as_millis), last.name)
}

/// What [`stream_key`] wrote; tokens cannot be forged.
fn read_stream(key: &str) -> Option<(i64, String)> {
    let (millis, name) = key.split_once('/')?;
    Some((millis.parse().ok()?, name.to_owned()))
}

pub(super) fn bad_token() -> Error {
    invalid("The specified nextToken is invalid.")
}

/// How many items a page has at most; the shape of the number was checked.
pub(super) fn page_limit(wanted: Option<i64>, maximum: u32) -> u32 {
    wanted.map_or(maximum, |wanted| wanted.clamp(1, maximum.into()) as u32)
}

/// The one of name and identifier that was given.
pub(super) fn the_group(call: &Call) -> &str {
    let input = call.input();
    input.get("logGroupName").or(input.get("logGroupIdentifier")).unwrap_or_default()
}
