//! Reading events. No statement reads more than it is asked for, and no page is longer than
//! [`PAGE_BYTES`].

use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use hearth_api::{AccountId, Timestamp};
use hearth_records::{
    EVENT_OVERHEAD_BYTES, EventOrder, Found, LogEvent, LogPage, LogPosition, LogQuery, MissingLog,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::{group_id, stream_id};
use crate::{Result, Store};

/// Bytes of events after which a page ends (the service's pages have 1 MB).
const PAGE_BYTES: u64 = 1 << 20;

/// Ids that [`Store::log_events_written`] walks over at most.
const WRITTEN_EVENTS: i64 = 100_000;
const WRITTEN: &str = "SELECT e.*, s.name AS stream_name, g.name AS group_name, s.gone
    FROM log_events AS e CROSS JOIN log_groups AS g ON g.id = e.group_id JOIN log_streams AS s ON s.id = e.stream_id
    WHERE e.id > ?1 AND e.id <= ?2 AND g.account = ?3 AND g.gone = 0 AND s.gone = 0
      AND g.name IN (SELECT value FROM json_each(?4))
    ORDER BY e.id LIMIT ?5";

impl Store {
    /// A page of events of a group or stream.
    pub async fn log_events(&self, query: &LogQuery<'_>) -> Result<Found<LogPage>> {
        let mut connection = self.log_readers.acquire().await?;
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
        let mut page = LogPage::default();
        for segment in segments(query) {
            let statement = sqlx::query(AssertSqlSafe(segment.statement(column, query.order)))
                .bind(query.group)
                .bind(id)
                .bind(segment.low)
                .bind(segment.high)
                .bind(segment.moment)
                .bind(query.limit.saturating_sub(page.looked_at));
            read_into(&mut page, statement.fetch(&mut *connection), query.limit).await?;
            if page.full {
                break;
            }
        }
        if query.order == EventOrder::Newest {
            page.events.reverse();
        }
        Ok(Ok(page))
    }

    /// The id of the newest event of all groups.
    pub async fn newest_log_event(&self) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM log_events")
            .fetch_one(&self.log_readers)
            .await?)
    }

    /// At most `limit` events of some groups of an account that were written behind the event
    /// `after` up to `newest`, as they were written. When a great many have been written, to
    /// whatever groups, only the first of them are looked at, and the page is full.
    pub async fn log_events_written(
        &self,
        account: &AccountId,
        groups: &[String],
        (after, newest): (i64, i64),
        limit: u32,
    ) -> Result<LogPage> {
        let last = newest.min(after.saturating_add(WRITTEN_EVENTS));
        let rows = sqlx::query(WRITTEN)
            .bind(after)
            .bind(last)
            .bind(account.as_str())
            .bind(crate::to_json(&groups))
            .bind(limit)
            .fetch(&self.log_readers);
        let mut page = LogPage::default();
        read_into(&mut page, rows, limit).await?;
        page.full |= last < newest;
        Ok(page)
    }
}

/// A part of what lies between two positions. In an index that ends with the id of the row, SQLite
/// finds a place only by the time or, at one time, by the id; a comparison of both would walk over
/// all events of that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    /// Time of all its events, which are then bounded by their ids, else by their times.
    moment: Option<i64>,
    /// Does not belong to it.
    low: i64,
    /// Does not belong to it.
    high: i64,
}

impl Segment {
    fn statement(self, column: &str, order: EventOrder) -> String {
        let direction = if order == EventOrder::Oldest { "ASC" } else { "DESC" };
        let bounds = match self.moment {
            Some(_) => "e.timestamp = ?5 AND e.id > ?3 AND e.id < ?4",
            None => "e.timestamp > ?3 AND e.timestamp < ?4 AND ?5 IS NULL",
        };
        // Messages of deleted streams may be long, and nobody gets to see them.
        format!(
            "SELECT e.id, e.timestamp, e.ingested_at, s.name AS stream_name, ?1 AS group_name, s.gone,
                 CASE s.gone WHEN 0 THEN e.message ELSE '' END AS message
             FROM log_events AS e CROSS JOIN log_streams AS s ON s.id = e.stream_id
             WHERE e.{column} = ?2 AND {bounds}
             ORDER BY e.timestamp {direction}, e.id {direction} LIMIT ?6"
        )
    }
}

/// What a query asks for, in the order in which it is read.
fn segments(query: &LogQuery<'_>) -> Vec<Segment> {
    let (after, before) = (query.after, query.before);
    let moment = |millis, low, high| Segment { moment: Some(millis), low, high };
    if after >= before {
        return Vec::new();
    }
    let mut segments = if after.millis == before.millis {
        vec![moment(after.millis, after.id, before.id)]
    } else {
        vec![
            moment(after.millis, after.id, i64::MAX),
            Segment { moment: None, low: after.millis, high: before.millis },
            moment(before.millis, 0, before.id),
        ]
    };
    // No event has the time of either end of the order.
    let ends = [LogPosition::START.millis, LogPosition::END.millis].map(Some);
    segments.retain(|segment| segment.low < segment.high && !ends.contains(&segment.moment));
    if query.order == EventOrder::Newest {
        segments.reverse();
    }
    segments
}

/// Adds rows to a page, until it has [`PAGE_BYTES`] or has looked at `limit` rows.
async fn read_into(
    page: &mut LogPage,
    mut rows: BoxStream<'_, sqlx::Result<SqliteRow>>,
    limit: u32,
) -> Result<()> {
    while page.bytes < PAGE_BYTES
        && let Some(row) = rows.try_next().await?
    {
        let event = event(&row)?;
        page.looked_at += 1;
        page.last = Some(event.position());
        if row.try_get::<i64, _>("gone")? == 0 {
            page.bytes += event.message.len() as u64 + EVENT_OVERHEAD_BYTES;
            page.events.push(event);
        }
    }
    page.full = page.looked_at >= limit || page.bytes >= PAGE_BYTES;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(i64, i64) -> LogPosition = |millis, id| LogPosition { millis, id };

    fn query(account: &AccountId, after: LogPosition, before: LogPosition) -> LogQuery<'_> {
        LogQuery { account, group: "g", stream: None, after, before, order: EventOrder::Oldest, limit: 3 }
    }

    /// The kind: what one account's request costs is bounded, whatever is stored. Here a
    /// million events of one time.
    #[tokio::test]
    async fn a_page_is_found_by_time_and_id_in_an_index() {
        let account = AccountId::from_stored("000000000000");
        let query = query(&account, AT(1, 5), AT(9, 7));
        let store = Store::temporary().await.unwrap();
        let segments = segments(&query);
        assert_eq!(
            segments.iter().map(|segment| segment.moment).collect::<Vec<_>>(),
            [Some(1), None, Some(9)]
        );
        for (column, index) in [("group_id", "log_events_by_group"), ("stream_id", "log_events_by_stream")] {
            for (segment, bounds) in segments.iter().zip([
                "timestamp=? AND id>? AND id<?",
                "timestamp>? AND timestamp<?",
                "timestamp=? AND id>? AND id<?",
            ]) {
                for order in [EventOrder::Oldest, EventOrder::Newest] {
                    let plan = store.plan(&segment.statement(column, order));
                    let expected = format!("SEARCH e USING INDEX {index} ({column}=? AND {bounds})");
                    assert!(plan.contains(&expected) && !plan.contains("TEMP B-TREE"), "{plan}");
                }
            }
        }
        let plan = store.plan(WRITTEN);
        assert!(plan.starts_with("SEARCH e USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }

    #[test]
    fn the_ends_of_the_order_are_no_moments() {
        let account = AccountId::from_stored("000000000000");
        let moments = |after, before| {
            let segments = segments(&query(&account, after, before));
            segments
                .into_iter()
                .map(|segment| (segment.moment, segment.low, segment.high))
                .collect::<Vec<_>>()
        };
        assert_eq!(moments(LogPosition::START, LogPosition::END), [(None, i64::MIN, i64::MAX)]);
        assert_eq!(moments(AT(4, 0), AT(6, 0)), [(Some(4), 0, i64::MAX), (None, 4, 6)]);
        assert_eq!(moments(AT(4, 2), AT(4, 9)), [(Some(4), 2, 9)]);
        assert_eq!(moments(AT(6, 0), AT(4, 0)), []);
    }
}
