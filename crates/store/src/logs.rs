//! Log groups, streams and their lines.

use hearth_api::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::records::{LogEvent, LogStreamRecord};
use crate::{Result, Store};

/// A line found by [`Store::filter_log_events`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilteredLogEvent {
    /// Position over all streams; grows with each line written.
    pub id: i64,
    /// Stream that holds it.
    pub stream: String,
    /// The line.
    pub event: LogEvent,
}

impl Store {
    /// Appends lines in order, making the group and stream when they do not exist.
    pub async fn append_log(&self, group: &str, stream: &str, lines: &[(Timestamp, String)]) -> Result<()> {
        let now = Timestamp::now().as_millis();
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("INSERT INTO log_groups (name, created_at) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(group)
            .bind(now)
            .execute(&mut *transaction)
            .await?;
        let row = sqlx::query(
            "INSERT INTO log_streams (group_name, name, created_at, last_event_at, next_sequence)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET next_sequence = next_sequence + ?5,
                 last_event_at = coalesce(?4, last_event_at)
             RETURNING id, next_sequence",
        )
        .bind(group)
        .bind(stream)
        .bind(now)
        .bind(lines.last().map(|(time, _)| time.as_millis()))
        .bind(lines.len() as i64)
        .fetch_one(&mut *transaction)
        .await?;
        let stream_id: i64 = row.try_get("id")?;
        let first = row.try_get::<i64, _>("next_sequence")? - lines.len() as i64;
        for (sequence, (time, message)) in (first..).zip(lines) {
            sqlx::query(
                "INSERT INTO log_events (stream_id, sequence, timestamp, message) VALUES (?, ?, ?, ?)",
            )
            .bind(stream_id)
            .bind(sequence)
            .bind(time.as_millis())
            .bind(message)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Log groups whose names begin with `prefix`, with their creation times.
    pub async fn log_groups(&self, prefix: &str) -> Result<Vec<(String, Timestamp)>> {
        let rows = sqlx::query(
            "SELECT name, created_at FROM log_groups WHERE substr(name, 1, length(?1)) = ?1 ORDER BY name",
        )
        .bind(prefix)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| Ok((row.try_get("name")?, Timestamp::from_millis(row.try_get("created_at")?))))
            .collect()
    }

    /// Streams of a group whose names begin with `prefix`; `None` when there is no such group.
    pub async fn log_streams(&self, group: &str, prefix: &str) -> Result<Option<Vec<LogStreamRecord>>> {
        let known = sqlx::query("SELECT 1 FROM log_groups WHERE name = ?").bind(group);
        if known.fetch_optional(&self.pool).await?.is_none() {
            return Ok(None);
        }
        let rows = sqlx::query(
            "SELECT * FROM log_streams WHERE group_name = ?1 AND substr(name, 1, length(?2)) = ?2 ORDER BY name",
        )
        .bind(group)
        .bind(prefix)
        .fetch_all(&self.pool)
        .await?;
        let streams = rows.iter().map(stream_record).collect::<Result<_>>()?;
        Ok(Some(streams))
    }

    /// At most `limit` lines behind `after_sequence` (-1 for the start), oldest first; `None` when there is no such
    /// stream.
    pub async fn log_events(
        &self,
        group: &str,
        stream: &str,
        after_sequence: i64,
        limit: u32,
    ) -> Result<Option<Vec<LogEvent>>> {
        let Some(stream_id) = self.stream_id(group, stream).await? else { return Ok(None) };
        let rows = sqlx::query(
            "SELECT * FROM log_events WHERE stream_id = ? AND sequence > ? ORDER BY sequence LIMIT ?",
        )
        .bind(stream_id)
        .bind(after_sequence)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        Ok(Some(rows.iter().map(event).collect::<Result<_>>()?))
    }

    /// The `limit` newest lines before `before_sequence`, oldest first; `None` when there is no such stream.
    pub async fn log_events_before(
        &self,
        group: &str,
        stream: &str,
        before_sequence: i64,
        limit: u32,
    ) -> Result<Option<Vec<LogEvent>>> {
        let Some(stream_id) = self.stream_id(group, stream).await? else { return Ok(None) };
        let rows = sqlx::query(
            "SELECT * FROM log_events WHERE stream_id = ? AND sequence < ? ORDER BY sequence DESC LIMIT ?",
        )
        .bind(stream_id)
        .bind(before_sequence)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        Ok(Some(rows.iter().rev().map(event).collect::<Result<_>>()?))
    }

    /// At most `limit` lines of a group's streams behind position `after` (0 for the start), in the order they were
    /// written; `stream_names` empty means all. `None` when there is no such group.
    pub async fn filter_log_events(
        &self,
        group: &str,
        stream_names: &[String],
        stream_prefix: &str,
        (start_millis, end_millis): (i64, i64),
        after: i64,
        limit: u32,
    ) -> Result<Option<Vec<FilteredLogEvent>>> {
        let Some(streams) = self.log_streams(group, stream_prefix).await? else { return Ok(None) };
        let wanted: Vec<&LogStreamRecord> = streams
            .iter()
            .filter(|stream| stream_names.is_empty() || stream_names.contains(&stream.name))
            .collect();
        let names: Vec<&str> = wanted.iter().map(|stream| stream.name.as_str()).collect();
        let rows = sqlx::query(
            "SELECT log_events.*, log_streams.name AS stream_name FROM log_events
             JOIN log_streams ON log_streams.id = log_events.stream_id
             WHERE log_streams.group_name = ?1
               AND log_streams.name IN (SELECT value FROM json_each(?2))
               AND log_events.id > ?3 AND timestamp >= ?4 AND timestamp < ?5
             ORDER BY log_events.id LIMIT ?6",
        )
        .bind(group)
        .bind(crate::to_json(&names))
        .bind(after)
        .bind(start_millis)
        .bind(end_millis)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let found = rows.iter().map(|row| {
            Ok(FilteredLogEvent {
                id: row.try_get("id")?,
                stream: row.try_get("stream_name")?,
                event: event(row)?,
            })
        });
        Ok(Some(found.collect::<Result<_>>()?))
    }

    async fn stream_id(&self, group: &str, stream: &str) -> Result<Option<i64>> {
        let row = sqlx::query("SELECT id FROM log_streams WHERE group_name = ? AND name = ?")
            .bind(group)
            .bind(stream)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| Ok(row.try_get("id")?)).transpose()
    }
}

fn stream_record(row: &SqliteRow) -> Result<LogStreamRecord> {
    Ok(LogStreamRecord {
        group: row.try_get("group_name")?,
        name: row.try_get("name")?,
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        last_event_at: row.try_get::<Option<i64>, _>("last_event_at")?.map(Timestamp::from_millis),
    })
}

fn event(row: &SqliteRow) -> Result<LogEvent> {
    Ok(LogEvent {
        sequence: row.try_get("sequence")?,
        timestamp: Timestamp::from_millis(row.try_get("timestamp")?),
        message: row.try_get("message")?,
    })
}
