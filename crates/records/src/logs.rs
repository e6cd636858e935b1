//! Log groups, streams and their lines.
//!
//! Events have one order everywhere: by timestamp, then in the order they were written.

mod destination;

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use hearth_api::{AccountId, MicrovmId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::Result;

pub use destination::{Author, LogActions, LogDestination, LogRights, WrittenFor};

/// What an event counts besides its message, in bytes ("PutLogEvents", CloudWatch Logs API
/// reference).
pub const EVENT_OVERHEAD_BYTES: u64 = 26;

/// Pages of logs that are read at a time. Callers that read for clients must make sure that no
/// account takes all of them.
pub const LOG_READERS: u32 = 4;

/// A log group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogGroupRecord {
    /// Name; with the account the key.
    pub name: String,
    /// Creation.
    pub created_at: Timestamp,
    /// Days after which events go; `None` is never.
    pub retention_days: Option<u32>,
    /// Messages with [`EVENT_OVERHEAD_BYTES`] each.
    pub stored_bytes: u64,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A log stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStreamRecord {
    /// Log group.
    pub group: String,
    /// Stream name.
    pub name: String,
    /// Creation.
    pub created_at: Timestamp,
    /// Earliest event that it ever had.
    pub first_event_at: Option<Timestamp>,
    /// Latest event that it ever had.
    pub last_event_at: Option<Timestamp>,
    /// When something was last written.
    pub last_ingested_at: Option<Timestamp>,
}

/// One line of a log stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEvent {
    /// Unique over all groups; grows with each event written.
    pub id: i64,
    /// Group that holds it.
    pub group: String,
    /// Stream that holds it.
    pub stream: String,
    /// When it happened.
    pub timestamp: Timestamp,
    /// When it was written.
    pub ingested_at: Timestamp,
    /// The line without its end.
    pub message: String,
}

impl LogEvent {
    /// Where it stands in the order of events.
    pub fn position(&self) -> LogPosition {
        LogPosition { millis: self.timestamp.as_millis(), id: self.id }
    }
}

/// A place in the order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPosition {
    /// Timestamp in milliseconds since 1970.
    pub millis: i64,
    /// [`LogEvent::id`].
    pub id: i64,
}

impl LogPosition {
    /// Before all events.
    pub const START: Self = Self { millis: i64::MIN, id: 0 };
    /// Behind all events.
    pub const END: Self = Self { millis: i64::MAX, id: i64::MAX };
}

/// What a call named and the account does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingLog {
    /// The group.
    Group,
    /// The stream.
    Stream,
}

/// A result of looking something up.
pub type Found<T> = std::result::Result<T, MissingLog>;

/// Which end a page of events is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOrder {
    /// The first ones of the range.
    Oldest,
    /// The last ones of the range.
    Newest,
}

/// Which events to read.
#[derive(Debug, Clone, Copy)]
pub struct LogQuery<'a> {
    /// Owner.
    pub account: &'a AccountId,
    /// Group.
    pub group: &'a str,
    /// Only of this stream.
    pub stream: Option<&'a str>,
    /// Behind this one.
    pub after: LogPosition,
    /// Before this one.
    pub before: LogPosition,
    /// Which to take when there are more than a page.
    pub order: EventOrder,
    /// Most events that are looked at.
    pub limit: u32,
}

/// Events in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPage {
    /// Events, always in their order.
    pub events: Vec<LogEvent>,
    /// Whether the page was full, so that there may be more.
    pub full: bool,
    /// Events that were looked at, those of deleted streams included, which are not in the page.
    pub looked_at: u32,
    /// The event that was looked at last: where the next page begins.
    pub last: Option<LogPosition>,
    /// Messages, with [`EVENT_OVERHEAD_BYTES`] each.
    pub bytes: u64,
}

/// Order of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOrder<'a> {
    /// By name; only those whose names begin like this.
    Name {
        /// Beginning of the names.
        prefix: &'a str,
    },
    /// By the time of their latest event; those without one are before all others.
    LastEvent,
}

/// A place in an order of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPosition<'a> {
    /// Time of the latest event in milliseconds since 1970, 0 without one; means nothing in the
    /// order of names.
    pub millis: i64,
    /// Name.
    pub name: &'a str,
}

/// Which streams to list.
#[derive(Debug, Clone, Copy)]
pub struct StreamQuery<'a> {
    /// Owner.
    pub account: &'a AccountId,
    /// Group.
    pub group: &'a str,
    /// Order.
    pub order: StreamOrder<'a>,
    /// From the end.
    pub descending: bool,
    /// Behind this one, in the order in which they are listed.
    pub after: Option<StreamPosition<'a>>,
    /// How many.
    pub limit: u32,
}

/// What became of a new log stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreatedLogStream {
    /// It is there now.
    Created,
    /// It was there already.
    Exists,
    /// There is no such group.
    NoGroup,
}

/// A kind of thing that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSweep {
    /// Deleted groups with what is in them.
    DeletedGroups,
    /// Deleted streams with their events.
    DeletedStreams,
    /// Events older than their group's retention.
    ExpiredEvents,
    /// Streams without events that nothing was written to for their group's retention.
    EmptyStreams,
    /// The streams least recently written to of an account that has more than
    /// [`crate::LogQuotas::streams`].
    ExcessStreams,
    /// The oldest events of groups that are too large, and of accounts that have more than
    /// [`crate::LogQuotas::bytes`].
    ExcessEvents,
}

impl LogSweep {
    /// All kinds, in the order in which they are best removed.
    pub const ALL: [Self; 6] = [
        Self::DeletedGroups,
        Self::DeletedStreams,
        Self::ExpiredEvents,
        Self::EmptyStreams,
        Self::ExcessStreams,
        Self::ExcessEvents,
    ];
}

/// Log groups, as they are kept.
#[async_trait]
pub trait Logs: Send + Sync + fmt::Debug {
    /// Gives the groups that were made when there was one account only to that account.
    async fn adopt_log_groups(&self, account: &AccountId) -> Result<()>;

    /// Makes a group that keeps its events for ever; false when it exists.
    async fn create_log_group(
        &self,
        account: &AccountId,
        name: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<bool>;

    /// Makes an empty stream.
    async fn create_log_stream(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
    ) -> Result<CreatedLogStream>;

    /// Deletes a group with everything in it; false when there is none.
    async fn delete_log_group(&self, account: &AccountId, name: &str) -> Result<bool>;

    /// Deletes a stream with its events. Its bytes count until they are removed.
    async fn delete_log_stream(&self, account: &AccountId, group: &str, stream: &str) -> Result<Found<()>>;

    /// Sets how long a group keeps its events, `None` for ever; false when there is no such group.
    async fn set_log_retention(&self, account: &AccountId, group: &str, days: Option<u32>) -> Result<bool>;

    /// Replaces the tags of a group if they are still as they were `before`; false when they are
    /// not, or when there is no such group.
    async fn replace_log_tags(
        &self,
        account: &AccountId,
        group: &str,
        before: &BTreeMap<String, String>,
        after: &BTreeMap<String, String>,
    ) -> Result<bool>;

    /// One group.
    async fn log_group(&self, account: &AccountId, name: &str) -> Result<Option<LogGroupRecord>>;

    /// Appends lines in order, making the group and stream when they do not exist. A new group gets
    /// the retention of the retention that the service sets.
    async fn append_log(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
        lines: &[(Timestamp, String)],
    ) -> Result<()> {
        self.append_output(account, group, stream, lines, None).await
    }

    /// The same; with them it is recorded how far a microVM's output has been written.
    async fn append_output(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
        lines: &[(Timestamp, String)],
        progress: Option<(&MicrovmId, u64)>,
    ) -> Result<()>;

    /// Whether output may be written to its destination now, or why not. The service's own streams
    /// need no permission.
    async fn may_write_log(&self, destination: &LogDestination) -> Result<std::result::Result<(), String>>;

    /// Appends events to a stream that exists. They must be in the order of their times.
    async fn put_log_events(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
        events: &[(Timestamp, String)],
    ) -> Result<Found<()>>;

    /// A page of events of a group or stream.
    async fn log_events(&self, query: &LogQuery<'_>) -> Result<Found<LogPage>>;

    /// The id of the newest event of all groups.
    async fn newest_log_event(&self) -> Result<i64>;

    /// At most `limit` events of some groups of an account that were written behind the event
    /// `after` up to `newest`, as they were written. When a great many have been written, to
    /// whatever groups, only the first of them are looked at, and the page is full.
    async fn log_events_written(
        &self,
        account: &AccountId,
        groups: &[String],
        between: (i64, i64),
        limit: u32,
    ) -> Result<LogPage>;

    /// Streams of a group; nothing when there is no such group.
    async fn log_streams(&self, query: &StreamQuery<'_>) -> Result<Option<Vec<LogStreamRecord>>>;

    /// At most `limit` groups of an account behind the one named `after`, by name, whose names
    /// begin with `prefix` and contain `pattern` in any case.
    async fn log_groups(
        &self,
        account: &AccountId,
        prefix: &str,
        pattern: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<LogGroupRecord>>;

    /// Accounts that have log groups, deleted ones included.
    async fn accounts_with_logs(&self) -> Result<Vec<AccountId>>;

    /// Removes up to a thousand rows of one kind that an account has. True when there may be more.
    async fn sweep_logs(
        &self,
        account: &AccountId,
        what: LogSweep,
        now: Timestamp,
        maximum_group_bytes: Option<u64>,
    ) -> Result<bool>;
}
