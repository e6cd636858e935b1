//! The four reading operations.

use hearth_store::{LogEvent, LogStreamRecord};

use super::filter::Filter;
use super::model::{
    DescribeLogGroupsRequest, DescribeLogGroupsResponse, DescribeLogStreamsRequest,
    DescribeLogStreamsResponse, FilterLogEventsRequest, FilterLogEventsResponse, FilteredEvent,
    GetLogEventsRequest, GetLogEventsResponse, LogGroup, LogStream, OrderBy, OutputLogEvent,
};
use super::{Logs, LogsError};

const MAXIMUM_DESCRIBED: u32 = 50;
const MAXIMUM_EVENTS: u32 = 10_000;

impl Logs {
    pub(super) async fn describe_log_groups(
        &self,
        request: DescribeLogGroupsRequest,
    ) -> Result<DescribeLogGroupsResponse, LogsError> {
        let pattern = request.log_group_name_pattern.unwrap_or_default().to_lowercase();
        let groups = self.store.log_groups(request.log_group_name_prefix.as_deref().unwrap_or("")).await?;
        let matching =
            groups.into_iter().filter(|(name, _)| name.to_lowercase().contains(&pattern)).collect();
        let (groups, next_token) =
            paginate(matching, request.next_token.as_deref(), limit(request.limit, MAXIMUM_DESCRIBED)?)?;
        let log_groups = groups
            .into_iter()
            .map(|(name, created)| LogGroup {
                arn: format!("{}:*", self.group_arn(&name)),
                plain_arn: self.group_arn(&name),
                creation_time: created.as_millis(),
                name,
                class: "STANDARD",
            })
            .collect();
        Ok(DescribeLogGroupsResponse { log_groups, next_token })
    }

    pub(super) async fn describe_log_streams(
        &self,
        request: DescribeLogStreamsRequest,
    ) -> Result<DescribeLogStreamsResponse, LogsError> {
        let group = group_name(request.log_group_name, request.log_group_identifier)?;
        let prefix = request.log_stream_name_prefix.unwrap_or_default();
        if request.order_by == OrderBy::LastEventTime && !prefix.is_empty() {
            return Err(LogsError::invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
        }
        let mut streams =
            self.store.log_streams(&group, &prefix).await?.ok_or_else(|| LogsError::missing("log group"))?;
        if request.order_by == OrderBy::LastEventTime {
            streams.sort_by_key(|stream| stream.last_event_at);
        }
        if request.descending {
            streams.reverse();
        }
        let (streams, next_token) =
            paginate(streams, request.next_token.as_deref(), limit(request.limit, MAXIMUM_DESCRIBED)?)?;
        let log_streams = streams.into_iter().map(|stream| self.stream(stream)).collect();
        Ok(DescribeLogStreamsResponse { log_streams, next_token })
    }

    /// Tokens are `f/<n>` and `b/<n>`: forward from, or backward from, line number n. At either end the token comes
    /// back unchanged, which is how clients know that there is nothing more.
    pub(super) async fn get_log_events(
        &self,
        request: GetLogEventsRequest,
    ) -> Result<GetLogEventsResponse, LogsError> {
        let group = group_name(request.log_group_name, request.log_group_identifier)?;
        let stream = &request.log_stream_name;
        let limit = limit(request.limit, MAXIMUM_EVENTS)?;
        let missing = || LogsError::missing("log stream");
        let direction = match request.next_token.as_deref() {
            Some(token) => Direction::parse(token)?,
            None if request.start_from_head => Direction::Forward { from: 0 },
            None => Direction::Backward { before: i64::MAX },
        };
        let events = match direction {
            Direction::Forward { from } => self.store.log_events(&group, stream, from - 1, limit).await?,
            Direction::Backward { before } => {
                self.store.log_events_before(&group, stream, before, limit).await?
            }
        };
        let events = match events {
            Some(events) => events,
            None if self.store.log_streams(&group, "").await?.is_none() => {
                return Err(LogsError::missing("log group"));
            }
            None => return Err(missing()),
        };
        let (first, after) = direction.span(&events);
        let (start, end) = (request.start_time.unwrap_or(i64::MIN), request.end_time.unwrap_or(i64::MAX));
        let events = events
            .into_iter()
            .filter(|event| (start..end).contains(&event.timestamp.as_millis()))
            .map(|event| OutputLogEvent {
                timestamp: event.timestamp.as_millis(),
                ingestion_time: event.timestamp.as_millis(),
                message: event.message,
            })
            .collect();
        Ok(GetLogEventsResponse {
            events,
            next_forward_token: format!("f/{after}"),
            next_backward_token: format!("b/{first}"),
        })
    }

    pub(super) async fn filter_log_events(
        &self,
        request: FilterLogEventsRequest,
    ) -> Result<FilterLogEventsResponse, LogsError> {
        let group = group_name(request.log_group_name, request.log_group_identifier)?;
        let filter = Filter::parse(request.filter_pattern.as_deref().unwrap_or(""))?;
        let limit = limit(request.limit, MAXIMUM_EVENTS)?;
        let after = request.next_token.as_deref().map_or(Ok(0), read_position)?;
        let times = (request.start_time.unwrap_or(0), request.end_time.unwrap_or(i64::MAX));
        let prefix = request.log_stream_name_prefix.unwrap_or_default();
        let found = self
            .store
            .filter_log_events(&group, &request.log_stream_names, &prefix, times, after, limit)
            .await?
            .ok_or_else(|| LogsError::missing("log group"))?;
        // A full page may have more behind it, even if the pattern leaves nothing of this one.
        let next_token =
            (found.len() == limit as usize).then(|| found.last()).flatten().map(|l| l.id.to_string());
        let events = found
            .into_iter()
            .filter(|found| filter.matches(&found.event.message))
            .map(|found| FilteredEvent {
                log_stream_name: found.stream,
                timestamp: found.event.timestamp.as_millis(),
                ingestion_time: found.event.timestamp.as_millis(),
                message: found.event.message,
                event_id: format!("{:056}", found.id),
            })
            .collect();
        Ok(FilterLogEventsResponse { events, searched_log_streams: [], next_token })
    }

    fn group_arn(&self, name: &str) -> String {
        format!("arn:aws:logs:{}:{}:log-group:{name}", self.region, self.account)
    }

    fn stream(&self, record: LogStreamRecord) -> LogStream {
        LogStream {
            arn: format!("{}:log-stream:{}", self.group_arn(&record.group), record.name),
            name: record.name,
            creation_time: record.created_at.as_millis(),
            last_event_timestamp: record.last_event_at.map(hearth_api::Timestamp::as_millis),
        }
    }
}

/// Which way GetLogEvents reads.
#[derive(Debug, Clone, Copy)]
enum Direction {
    Forward { from: i64 },
    Backward { before: i64 },
}

impl Direction {
    fn parse(token: &str) -> Result<Self, LogsError> {
        match token.split_once('/') {
            Some(("f", position)) => Ok(Self::Forward { from: read_position(position)? }),
            Some(("b", position)) => Ok(Self::Backward { before: read_position(position)? }),
            _ => Err(LogsError::invalid("The specified nextToken is invalid.")),
        }
    }

    /// Number of the first line of a page and of the line behind it.
    fn span(self, events: &[LogEvent]) -> (i64, i64) {
        match (events, self) {
            ([first, .., last], _) => (first.sequence, last.sequence + 1),
            ([only], _) => (only.sequence, only.sequence + 1),
            ([], Self::Forward { from }) => (from, from),
            // An empty stream: whatever comes is new.
            ([], Self::Backward { before: i64::MAX }) => (0, 0),
            ([], Self::Backward { before }) => (before, before),
        }
    }
}

fn read_position(text: &str) -> Result<i64, LogsError> {
    text.parse::<u32>().map(i64::from).map_err(|_| LogsError::invalid("The specified nextToken is invalid."))
}

/// The group's name from its name or ARN (`…:log-group:<name>[:*]`).
fn group_name(name: Option<String>, identifier: Option<String>) -> Result<String, LogsError> {
    match (name, identifier) {
        (Some(name), None) => Ok(name),
        (None, Some(identifier)) => Ok(match identifier.split_once(":log-group:") {
            Some((_, name)) => name.trim_end_matches(":*").to_owned(),
            None => identifier,
        }),
        _ => Err(LogsError::invalid("Exactly one of logGroupName and logGroupIdentifier must be given.")),
    }
}

fn limit(wanted: Option<u32>, maximum: u32) -> Result<u32, LogsError> {
    match wanted.unwrap_or(maximum) {
        0 => Err(LogsError::invalid("The limit must be at least 1.")),
        wanted => Ok(wanted.min(maximum)),
    }
}

/// One page of `all`; the token is the number of items before it.
fn paginate<T>(all: Vec<T>, token: Option<&str>, limit: u32) -> Result<(Vec<T>, Option<String>), LogsError> {
    let start = token.map_or(Ok(0), read_position)? as usize;
    let end = start.saturating_add(limit as usize);
    let next = (end < all.len()).then(|| end.to_string());
    Ok((all.into_iter().skip(start).take(limit as usize).collect(), next))
}
