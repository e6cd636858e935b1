//! Reading events. No statement reads more than it is asked for, and no page is longer than
//! [`PAGE_BYTES`].

use hearth_api::AccountId;
use hearth_records::{
    EVENT_OVERHEAD_BYTES, EventOrder, Found, LogEvent, LogPage, LogPosition, LogQuery, MissingLog,
};
use rusqlite::{Connection, Row, Rows, params};

use super::{group_id, stream_id};
use crate::Result;
use crate::rows::moment;

/// Bytes of events after which a page ends (the service's pages have 1 MB).
const PAGE_BYTES: u64 = 1 << 20;

/// Ids that [`written`] walks over at most.
const WRITTEN_EVENTS: i64 = 100_000;
const WRITTEN: &str = "SELECT e.*, s.name AS stream_name, g.name AS group_name, s.gone
    FROM log_events AS e CROSS JOIN log_groups AS g ON g.id = e.group_id JOIN log_streams AS s ON s.id = e.stream_id
    WHERE e.id > ?1 AND e.id <= ?2 AND g.account = ?3 AND g.gone = 0 AND s.gone = 0
      AND g.name IN (SELECT value FROM json_each(?4))
    ORDER BY e.id LIMIT ?5";

/// A page of events of a group or stream.
pub(super) fn events(connection: &Connection, query: &LogQuery<'_>) -> Result<Found<LogPage>> {
    let (column, id) = match query.stream {
        None => match group_id(connection, query.account, query.group)? {
            Some(group) => ("group_id", group),
            None => return Ok(Err(MissingLog::Group)),
        },
        Some(stream) => match stream_id(connection, query.account, query.group, stream)? {
            Ok((_, stream)) => ("stream_id", stream),
            Err(missing) => return Ok(Err(missing)),
        },
    };
    let mut page = LogPage::default();
    for segment in segments(query) {
        let left = query.limit.saturating_sub(page.looked_at);
        let Segment { moment, low, high } = segment;
        let mut statement = connection.prepare_cached(&segment.statement(column, query.order))?;
        let rows = statement.query(params![query.group, id, low, high, moment, left])?;
        read_into(&mut page, rows, query.limit)?;
        if page.full {
            break;
        }
    }
    if query.order == EventOrder::Newest {
        page.events.reverse();
    }
    Ok(Ok(page))
}

/// Events of some groups (a JSON array of names) behind `after` up to `newest`, as they were
/// written.
pub(super) fn written(
    connection: &Connection,
    account: &AccountId,
    groups: &str,
    (after, newest): (i64, i64),
    limit: u32,
) -> Result<LogPage> {
    let last = newest.min(after.saturating_add(WRITTEN_EVENTS));
    let mut page = LogPage::default();
    let mut statement = connection.prepare_cached(WRITTEN)?;
    let rows = statement.query(params![after, last, account.as_str(), groups, limit])?;
    read_into(&mut page, rows, limit)?;
    page.full |= last < newest;
    Ok(page)
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
fn read_into(page: &mut LogPage, mut rows: Rows<'_>, limit: u32) -> Result<()> {
    while page.bytes < PAGE_BYTES
        && let Some(row) = rows.next()?
    {
        let event = event(row)?;
        page.looked_at += 1;
        page.last = Some(event.position());
        if row.get::<_, i64>("gone")? == 0 {
            page.bytes += event.message.len() as u64 + EVENT_OVERHEAD_BYTES;
            page.events.push(event);
        }
    }
    page.full = page.looked_at >= limit || page.bytes >= PAGE_BYTES;
    Ok(())
}

fn event(row: &Row<'_>) -> Result<LogEvent> {
    Ok(LogEvent {
        id: row.get("id")?,
        group: row.get("group_name")?,
        stream: row.get("stream_name")?,
        timestamp: moment(row, "timestamp")?,
        ingested_at: moment(row, "ingested_at")?,
        message: row.get("message")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

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
