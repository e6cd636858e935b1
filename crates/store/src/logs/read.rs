//! Reading events and streams. No statement reads more than it is asked for, and no page is longer than
//! [`PAGE_BYTES`].

use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use hearth_api::{AccountId, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::{
    EVENT_OVERHEAD_BYTES, Found, LogEvent, LogPosition, LogStreamRecord, MissingLog, group_id, stream_id,
};
use crate::{Result, Store};

/// Bytes of events after which a page ends (the service's pages have 1 MB).
const PAGE_BYTES: u64 = 1 << 20;

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
    /// Longest page, in events.
    pub limit: u32,
}

/// Events in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// Events, always in their order.
    pub events: Vec<LogEvent>,
    /// Whether the page was full, so that there may be more.
    pub full: bool,
}

/// Order of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOrder {
    /// By name.
    Name,
    /// By the time of their latest event.
    LastEvent,
}

/// Which streams to list.
#[derive(Debug, Clone, Copy)]
pub struct StreamQuery<'a> {
    /// Owner.
    pub account: &'a AccountId,
    /// Group.
    pub group: &'a str,
    /// Beginning of their names.
    pub prefix: &'a str,
    /// Order.
    pub order: StreamOrder,
    /// From the end.
    pub descending: bool,
    /// How many to leave out.
    pub offset: u32,
    /// How many.
    pub limit: u32,
}

impl Store {
    /// Streams of a group; nothing when there is no such group.
    pub async fn log_streams(&self, query: &StreamQuery<'_>) -> Result<Option<Vec<LogStreamRecord>>> {
        let mut connection = self.pool.acquire().await?;
        let Some(group) = group_id(&mut connection, query.account, query.group).await? else {
            return Ok(None);
        };
        let direction = if query.descending { "DESC" } else { "ASC" };
        let order = match query.order {
            StreamOrder::Name => format!("name {direction}"),
            StreamOrder::LastEvent => format!("coalesce(last_event_at, 0) {direction}, name {direction}"),
        };
        let statement = format!(
            "SELECT * FROM log_streams WHERE group_id = ?1 AND gone = 0 AND substr(name, 1, length(?2)) = ?2
             ORDER BY {order} LIMIT ?3 OFFSET ?4",
        );
        let rows = sqlx::query(AssertSqlSafe(statement))
            .bind(group)
            .bind(query.prefix)
            .bind(query.limit)
            .bind(query.offset)
            .fetch_all(&mut *connection)
            .await?;
        Ok(Some(rows.iter().map(|row| stream_record(row, query.group)).collect::<Result<_>>()?))
    }

    /// A page of events of a group or stream.
    pub async fn log_events(&self, query: &LogQuery<'_>) -> Result<Found<LogPage>> {
        let mut connection = self.pool.acquire().await?;
        let (column, id) = match query.stream {
            None => match group_id(&mut connection, query.account, query.group).await? {
                Some(group) => ("group_id", group),
                None => return Ok(Err(MissingLog::Group)),
            },
            Some(stream) => match stream_id(&mut connection, query.account, query.group, stream).await? {
                Ok((_, stream)) => ("stream_id", stream),
                Err(missing) => return Ok(Err(missing)),
            },
        };
        let direction = if query.order == EventOrder::Oldest { "ASC" } else { "DESC" };
        let statement = format!(
            "SELECT log_events.*, log_streams.name AS stream_name, ?1 AS group_name
             FROM log_events JOIN log_streams ON log_streams.id = log_events.stream_id
             WHERE log_events.{column} = ?2 AND gone = 0
               AND (timestamp, log_events.id) > (?3, ?4) AND (timestamp, log_events.id) < (?5, ?6)
             ORDER BY timestamp {direction}, log_events.id {direction} LIMIT ?7",
        );
        let rows = sqlx::query(AssertSqlSafe(statement))
            .bind(query.group)
            .bind(id)
            .bind(query.after.millis)
            .bind(query.after.id)
            .bind(query.before.millis)
            .bind(query.before.id)
            .bind(query.limit)
            .fetch(&mut *connection);
        let LogPage { mut events, full } = page(rows, query.limit).await?;
        if query.order == EventOrder::Newest {
            events.reverse();
        }
        Ok(Ok(LogPage { events, full }))
    }

    /// The id of the newest event of all groups.
    pub async fn newest_log_event(&self) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM log_events").fetch_one(&self.pool).await?)
    }

    /// At most `limit` events of some groups of an account that were written behind the event `after` up to `newest`,
    /// as they were written.
    pub async fn log_events_written(
        &self,
        account: &AccountId,
        groups: &[String],
        (after, newest): (i64, i64),
        limit: u32,
    ) -> Result<LogPage> {
        let rows = sqlx::query(
            "SELECT log_events.*, log_streams.name AS stream_name, log_groups.name AS group_name
             FROM log_events CROSS JOIN log_groups ON log_groups.id = log_events.group_id
             JOIN log_streams ON log_streams.id = log_events.stream_id
             WHERE log_events.id > ?1 AND log_events.id <= ?2 AND account = ?3
               AND log_groups.gone = 0 AND log_streams.gone = 0
               AND log_groups.name IN (SELECT value FROM json_each(?4))
             ORDER BY log_events.id LIMIT ?5",
        )
        .bind(after)
        .bind(newest)
        .bind(account.as_str())
        .bind(crate::to_json(&groups))
        .bind(limit)
        .fetch(&self.pool);
        page(rows, limit).await
    }
}

/// Reads until `limit` or [`PAGE_BYTES`] are reached.
async fn page(mut rows: BoxStream<'_, sqlx::Result<SqliteRow>>, limit: u32) -> Result<LogPage> {
    let (mut events, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES
        && let Some(row) = rows.try_next().await?
    {
        let event = event(&row)?;
        bytes += event.message.len() as u64 + EVENT_OVERHEAD_BYTES;
        events.push(event);
    }
    let full = events.len() == limit as usize || bytes >= PAGE_BYTES;
    Ok(LogPage { events, full })
}

fn stream_record(row: &SqliteRow, group: &str) -> Result<LogStreamRecord> {
    let moment = |column: &str| -> Result<Option<Timestamp>> {
        Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_millis))
    };
    Ok(LogStreamRecord {
        group: group.to_owned(),
        name: row.try_get("name")?,
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        first_event_at: moment("first_event_at")?,
        last_event_at: moment("last_event_at")?,
        last_ingested_at: moment("last_ingested_at")?,
    })
}

fn event(row: &SqliteRow) -> Result<LogEvent> {
    Ok(LogEvent {
        id: row.try_get("id")?,
        group: row.try_get("group_name")?,
        stream: row.try_get("stream_name")?,
        timestamp: Timestamp::from_millis(row.try_get("timestamp")?),
        ingested_at: Timestamp::from_millis(row.try_get("ingested_at")?),
        message: row.try_get("message")?,
    })
}
