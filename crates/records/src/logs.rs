//! Log groups, streams and their lines.
//!
//! Events have one order everywhere: by timestamp, then in the order they were written.

mod destination;

use std::collections::BTreeMap;

use hearth_api::{AccountId, Timestamp};
use serde::{Deserialize, Serialize};

pub use destination::{Author, LogActions, LogDestination, LogRights, WrittenFor};

/// What an event counts besides its message, in bytes ("PutLogEvents", CloudWatch Logs API
/// reference).
pub const EVENT_OVERHEAD_BYTES: u64 = 26;

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
