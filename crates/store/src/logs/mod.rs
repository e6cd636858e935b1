//! Log groups, streams and their lines.
//!
//! Events have one order everywhere: by timestamp, then in the order they were written. Deleting a group or stream hides
//! it at once; [`Store::sweep_logs`] removes its events little by little.
//!
//! Reading order: this file, `destination`, `append`, `read`, `listing`, `sweep`, `writer`.

mod append;
#[cfg(test)]
mod bounds_tests;
mod destination;
mod groups;
mod listing;
mod read;
mod sweep;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;

use hearth_api::{AccountId, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::{Row as _, SqliteConnection};

use crate::Result;

pub use destination::{Author, LogActions, LogDestination, LogRights, WrittenFor};
pub use groups::CreatedLogStream;
pub use listing::{StreamOrder, StreamPosition, StreamQuery};
pub use read::{EventOrder, LogPage, LogQuery};
pub use sweep::LogSweep;
pub use writer::{LineBuffer, LogWriter, Room};

/// What an event counts besides its message, in bytes ("PutLogEvents", CloudWatch Logs API reference).
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

/// Id of a group.
pub(crate) async fn group_id(
    connection: &mut SqliteConnection,
    account: &AccountId,
    group: &str,
) -> Result<Option<i64>> {
    let row = sqlx::query("SELECT id FROM log_groups WHERE account = ? AND name = ? AND gone = 0")
        .bind(account.as_str())
        .bind(group)
        .fetch_optional(connection)
        .await?;
    row.map(|row| Ok(row.try_get("id")?)).transpose()
}

/// Ids of a group and of one of its streams.
async fn stream_id(
    connection: &mut SqliteConnection,
    account: &AccountId,
    group: &str,
    stream: &str,
) -> Result<Found<(i64, i64)>> {
    let Some(group) = group_id(connection, account, group).await? else {
        return Ok(Err(MissingLog::Group));
    };
    let row = sqlx::query("SELECT id FROM log_streams WHERE group_id = ? AND name = ? AND gone = 0")
        .bind(group)
        .bind(stream)
        .fetch_optional(connection)
        .await?;
    row.map(|row| Ok((group, row.try_get("id")?))).transpose().map(|ids| ids.ok_or(MissingLog::Stream))
}
