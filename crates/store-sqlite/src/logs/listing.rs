//! Listing groups and streams: every page is read from where it begins in an index.

use hearth_api::AccountId;
use hearth_records::{LogGroupRecord, LogStreamRecord, StreamOrder, StreamQuery};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params};

use super::group_id;
use super::groups::group_record;
use crate::rows::{moment, optional_moment};
use crate::{Result, rows};

/// A page of the streams of a group.
pub(super) struct Streams {
    account: AccountId,
    group: String,
    statement: String,
    bounds: [Value; 2],
    limit: u32,
}

impl Streams {
    pub(super) fn new(query: &StreamQuery<'_>) -> Self {
        let range = match query.order {
            StreamOrder::Name { prefix } => {
                NameRange::new(prefix, query.after.map(|after| after.name), query.descending)
            }
            StreamOrder::LastEvent => NameRange::default(),
        };
        let statement = streams_statement(query, &range);
        let bounds = match query.order {
            StreamOrder::Name { .. } => [range.low.into(), range.high.into()],
            StreamOrder::LastEvent => [
                query.after.map(|after| after.millis).into(),
                query.after.map(|after| after.name.to_owned()).into(),
            ],
        };
        let (account, group) = (query.account.clone(), query.group.to_owned());
        Self { account, group, statement, bounds, limit: query.limit }
    }

    /// Nothing when there is no such group.
    pub(super) fn read(&self, connection: &Connection) -> Result<Option<Vec<LogStreamRecord>>> {
        let Some(group) = group_id(connection, &self.account, &self.group)? else { return Ok(None) };
        let [low, high] = &self.bounds;
        let read = |row: &Row<'_>| stream_record(row, &self.group);
        rows::all(connection, &self.statement, params![group, low, high, self.limit], read).map(Some)
    }
}

/// At most `limit` groups of an account in a range of names that contain `pattern` in any case.
pub(super) fn groups(
    connection: &Connection,
    account: &AccountId,
    range: &NameRange,
    pattern: &str,
    limit: u32,
) -> Result<Vec<LogGroupRecord>> {
    let parameters = params![account.as_str(), range.low, range.high, pattern, limit];
    rows::all(connection, &groups_statement(range), parameters, group_record)
}

/// Between which names a page lies. SQLite walks an index only between bounds that
/// are plain comparisons.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NameRange {
    low: String,
    /// Whether `low` itself belongs to the page.
    with_low: bool,
    /// Never belongs to the page; `None` is without end.
    high: Option<String>,
}

impl NameRange {
    /// Names that begin with `prefix` behind `after`, in ascending or `descending` order.
    pub(super) fn new(prefix: &str, after: Option<&str>, descending: bool) -> Self {
        let (from, to) = if descending { (None, after) } else { (after, None) };
        let from = from.filter(|after| *after >= prefix);
        let end = behind_prefix(prefix);
        let high = match to {
            Some(to) if end.as_deref().is_none_or(|end| to < end) => Some(to.to_owned()),
            _ => end,
        };
        Self { low: from.unwrap_or(prefix).to_owned(), with_low: from.is_none(), high }
    }

    /// The condition, with `?2` and `?3` as bounds.
    fn condition(&self) -> String {
        let low = if self.with_low { "name >= ?2" } else { "name > ?2" };
        let high = if self.high.is_some() { "name < ?3" } else { "?3 IS NULL" };
        format!("{low} AND {high}")
    }
}

/// The least text that is greater than all that begin with `prefix`; none is when it has no
/// other characters than the last there is. SQLite compares text as UTF-8, in which the order is
/// that of the code points.
fn behind_prefix(prefix: &str) -> Option<String> {
    let mut kept: Vec<char> = prefix.chars().collect();
    while let Some(last) = kept.pop() {
        // A range of characters leaves out what is none.
        if let Some(next) = (last..=char::MAX).nth(1) {
            kept.push(next);
            return Some(kept.into_iter().collect());
        }
    }
    None
}

fn streams_statement(query: &StreamQuery<'_>, range: &NameRange) -> String {
    let (direction, behind) = if query.descending { ("DESC", "<") } else { ("ASC", ">") };
    let (condition, order) = match (query.order, query.after) {
        (StreamOrder::Name { .. }, _) => (range.condition(), format!("name {direction}")),
        (StreamOrder::LastEvent, after) => (
            match after {
                Some(_) => format!("(event_order, name) {behind} (?2, ?3)"),
                None => "?2 IS NULL AND ?3 IS NULL".to_owned(),
            },
            format!("event_order {direction}, name {direction}"),
        ),
    };
    format!(
        "SELECT * FROM log_streams WHERE group_id = ?1 AND gone = 0 AND {condition} ORDER BY {order} LIMIT ?4"
    )
}

fn groups_statement(range: &NameRange) -> String {
    format!(
        "SELECT * FROM log_groups WHERE account = ?1 AND gone = 0 AND {} AND instr(lower(name), lower(?4)) > 0
         ORDER BY name LIMIT ?5",
        range.condition()
    )
}

fn stream_record(row: &Row<'_>, group: &str) -> Result<LogStreamRecord> {
    Ok(LogStreamRecord {
        group: group.to_owned(),
        name: row.get("name")?,
        created_at: moment(row, "created_at")?,
        first_event_at: optional_moment(row, "first_event_at")?,
        last_event_at: optional_moment(row, "last_event_at")?,
        last_ingested_at: optional_moment(row, "last_ingested_at")?,
    })
}

#[cfg(test)]
mod tests {
    use hearth_records::StreamPosition;

    use super::*;
    use crate::Store;

    #[test]
    fn a_prefix_is_a_range() {
        for (prefix, behind) in [
            ("", None),
            ("a", Some("b")),
            ("/aws/\u{d7ff}", Some("/aws/\u{e000}")),
            ("a\u{10ffff}\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
        ] {
            assert_eq!(behind_prefix(prefix).as_deref(), behind, "{prefix:?}");
        }
        let range = |after, descending| NameRange::new("ab", after, descending);
        let bounds = |low: &str, with_low, high: &str| NameRange {
            low: low.to_owned(),
            with_low,
            high: Some(high.to_owned()),
        };
        assert_eq!(range(None, false), bounds("ab", true, "ac"));
        assert_eq!(range(Some("aa"), false), bounds("ab", true, "ac"));
        assert_eq!(range(Some("abc"), false), bounds("abc", false, "ac"));
        assert_eq!(range(Some("abc"), true), bounds("ab", true, "abc"));
        assert_eq!(range(Some("b"), true), bounds("ab", true, "ac"));
    }

    /// The kind: what one account's request costs is bounded, whatever is stored.
    #[tokio::test]
    async fn every_page_is_read_from_where_it_begins_in_an_index() {
        let store = Store::temporary().await.unwrap();
        let account = AccountId::from_stored("000000000000");
        let position = StreamPosition { millis: 5, name: "b" };
        let by_name = StreamOrder::Name { prefix: "a" };
        for (order, after, index) in [
            (by_name, None, "log_streams_by_name (group_id=? AND name>? AND name<?)"),
            (by_name, Some(position), "log_streams_by_name (group_id=? AND name>? AND name<?)"),
            (StreamOrder::LastEvent, None, "log_streams_by_event (group_id=?)"),
            (
                StreamOrder::LastEvent,
                Some(position),
                "log_streams_by_event (group_id=? AND (event_order,name)",
            ),
        ] {
            for descending in [false, true] {
                let query =
                    StreamQuery { account: &account, group: "g", order, descending, after, limit: 50 };
                let range = NameRange::new("a", after.map(|after| after.name), descending);
                let plan = store.plan(&streams_statement(&query, &range));
                assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{plan}");
            }
        }
        let plan = store.plan(&groups_statement(&NameRange::new("a", Some("ab"), false)));
        assert!(plan.ends_with("log_groups_by_name (account=? AND name>? AND name<?)"), "{plan}");
    }
}
