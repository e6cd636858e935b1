//! What one account has and asks for is bounded, on a database in memory.

use std::collections::BTreeMap;

use hearth_api::{AccountId, Timestamp};
use hearth_records::{
    CreatedLogStream, CurrentLimits, Error, EventOrder, Limits, LogPosition, LogQuery, LogQuota, LogQuotas,
    LogStreamRecord, LogSweep, StreamOrder, StreamPosition, StreamQuery,
};

use super::*;
use crate::Store;

const GROUP: &str = "group";

fn account() -> AccountId {
    AccountId::from_stored("111111111111")
}

fn lines(count: usize, bytes: usize) -> Vec<(Timestamp, String)> {
    (0..count).map(|_| (Timestamp::from_millis(5), "x".repeat(bytes))).collect()
}

async fn with_quotas(quotas: LogQuotas) -> Store {
    Store::temporary()
        .await
        .unwrap()
        .with_limits(CurrentLimits::new(Limits { logs: quotas, ..Limits::default() }))
}

async fn step(store: &Store, account: &AccountId, what: LogSweep) -> bool {
    store.sweep_logs(account, what, Timestamp::now(), None).await.unwrap()
}

fn stored_bytes(store: &Store) -> i64 {
    store.number("SELECT sum(stored_bytes) FROM log_groups")
}

/// Streams of the group by name, from behind `after`.
async fn names(store: &Store, order: StreamOrder<'_>, descending: bool, limit: u32) -> Vec<String> {
    let (account, mut names) = (account(), Vec::new());
    let mut last: Option<LogStreamRecord> = None;
    loop {
        let after = last.as_ref().map(|last| StreamPosition {
            millis: last.last_event_at.map_or(0, Timestamp::as_millis),
            name: &last.name,
        });
        let query = StreamQuery { account: &account, group: GROUP, order, descending, after, limit };
        let page = store.log_streams(&query).await.unwrap().unwrap();
        names.extend(page.iter().map(|stream| stream.name.clone()));
        if page.len() < limit as usize {
            return names;
        }
        last = page.into_iter().next_back();
    }
}

/// The kind: room that is not free yet is given to nobody.
#[tokio::test]
async fn bytes_of_a_deleted_stream_count_until_its_lines_are_removed() {
    let store = with_quotas(LogQuotas { bytes: Some(200_000), ..LogQuotas::default() }).await;
    let put = async |stream: &str| {
        store.create_log_stream(&account(), GROUP, stream).await.unwrap();
        store.put_log_events(&account(), GROUP, stream, &lines(1500, 100)).await
    };
    store.create_log_group(&account(), GROUP, &BTreeMap::new()).await.unwrap();
    put("a").await.unwrap().unwrap();
    store.delete_log_stream(&account(), GROUP, "a").await.unwrap().unwrap();
    assert!(matches!(put("b").await, Err(Error::LogQuota(LogQuota::Bytes(200_000)))));
    assert!(step(&store, &account(), LogSweep::DeletedStreams).await);
    assert_eq!(stored_bytes(&store), 500 * 126, "as rows are removed");
    assert!(!step(&store, &account(), LogSweep::DeletedStreams).await);
    assert_eq!((stored_bytes(&store), store.number("SELECT count(*) FROM log_events")), (0, 0));
    put("b").await.unwrap().unwrap();
    assert_eq!(store.number("SELECT stream_count FROM log_groups"), 1);
}

/// The kind: what is deleted goes before anything else gives way.
#[tokio::test]
async fn lines_that_are_there_stay_while_deleted_ones_still_count() {
    let store = with_quotas(LogQuotas { bytes: Some(200_000), ..LogQuotas::default() }).await;
    // The oldest of all, which would go first.
    store.append_log(&account(), GROUP, "b", &lines(100, 100)).await.unwrap();
    store.append_log(&account(), GROUP, "a", &lines(1500, 100)).await.unwrap();
    store.delete_log_stream(&account(), GROUP, "a").await.unwrap().unwrap();
    let sweep =
        async |what| store.sweep_logs(&account(), what, Timestamp::now(), Some(20_000)).await.unwrap();
    while [sweep(LogSweep::DeletedStreams).await, sweep(LogSweep::ExcessEvents).await].contains(&true) {}
    assert_eq!(store.number("SELECT count(*) FROM log_events"), 100);
}

/// The kind: one account's deletions hold up nobody's, and many small ones are as
/// fast as a large one.
#[tokio::test]
async fn many_deleted_streams_and_groups_go_in_a_step() {
    let store = Store::temporary().await.unwrap();
    let other = AccountId::from_stored("222222222222");
    let make = "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 1499)
        INSERT INTO log_streams (group_id, name, created_at, gone)
        SELECT log_groups.id, n, 0, 1 FROM n JOIN log_groups WHERE account = '111111111111'";
    for account in [&account(), &other] {
        store.append_log(account, GROUP, "a", &lines(2, 10)).await.unwrap();
    }
    store.execute(make);
    store.delete_log_stream(&other, GROUP, "a").await.unwrap().unwrap();
    let gone = "SELECT count(*) FROM log_streams WHERE gone = 1";
    assert!(step(&store, &account(), LogSweep::DeletedStreams).await);
    assert_eq!(store.number(gone), 500 + 1, "a thousand at a time");
    assert!(!step(&store, &other, LogSweep::DeletedStreams).await);
    assert_eq!(store.number(gone), 500, "the other account need not wait for the rest");
    for n in 0..50 {
        store.create_log_group(&other, &n.to_string(), &BTreeMap::new()).await.unwrap();
        store.delete_log_group(&other, &n.to_string()).await.unwrap();
    }
    assert!(!step(&store, &other, LogSweep::DeletedGroups).await);
    assert_eq!(store.number("SELECT count(*) FROM log_groups"), 2);
    assert_eq!(store.accounts_with_logs().await.unwrap(), [account(), other]);
}

/// The kind: nobody can use the last of anything.
#[tokio::test]
async fn an_account_has_so_many_streams_and_no_more() {
    let store = with_quotas(LogQuotas { streams: Some(16), ..LogQuotas::default() }).await;
    store.create_log_group(&account(), GROUP, &BTreeMap::new()).await.unwrap();
    let create = async |n: i32| store.create_log_stream(&account(), GROUP, &format!("s{n:02}")).await;
    for n in 0..16 {
        assert_eq!(create(n).await.unwrap(), CreatedLogStream::Created);
    }
    assert_eq!(create(3).await.unwrap(), CreatedLogStream::Exists, "that it exists is said first");
    assert!(matches!(create(16).await, Err(Error::LogQuota(LogQuota::Streams(16)))));
    let other = AccountId::from_stored("222222222222");
    store.append_log(&other, GROUP, "a", &lines(1, 1)).await.unwrap();

    // Output goes on, a little further, and the streams give way that were not
    // written to for longest.
    store.append_log(&account(), GROUP, "s00", &lines(1, 1)).await.unwrap();
    for stream in ["t0", "t1"] {
        store.append_log(&account(), GROUP, stream, &lines(1, 1)).await.unwrap();
    }
    let refused = store.append_log(&account(), GROUP, "t2", &lines(1, 1)).await;
    assert!(matches!(refused, Err(Error::LogQuota(LogQuota::Streams(16)))));
    store.append_log(&account(), GROUP, "t1", &lines(1, 1)).await.unwrap();
    store.delete_log_stream(&account(), GROUP, "s15").await.unwrap().unwrap();
    assert!(!step(&store, &account(), LogSweep::ExcessStreams).await, "deleted ones go first");
    assert!(!step(&store, &account(), LogSweep::DeletedStreams).await);
    assert!(step(&store, &account(), LogSweep::ExcessStreams).await);
    assert!(!step(&store, &account(), LogSweep::DeletedStreams).await);
    assert!(!step(&store, &account(), LogSweep::ExcessStreams).await);
    let left = names(&store, StreamOrder::Name { prefix: "" }, false, 100).await;
    assert_eq!(left.len(), 16);
    assert!(left.contains(&"s00".to_owned()) && left.contains(&"t1".to_owned()), "{left:?}");
}

#[tokio::test]
async fn streams_are_listed_in_pages_that_follow_on() {
    let store = Store::temporary().await.unwrap();
    store.create_log_group(&account(), GROUP, &BTreeMap::new()).await.unwrap();
    for (stream, time) in [("b", Some(7)), ("ab", Some(9)), ("aa", Some(7)), ("ac", None), ("a", None)] {
        store.create_log_stream(&account(), GROUP, stream).await.unwrap();
        if let Some(time) = time {
            let line = (Timestamp::from_millis(time), "line".to_owned());
            store.append_log(&account(), GROUP, stream, &[line]).await.unwrap();
        }
    }
    store.create_log_stream(&account(), GROUP, "gone").await.unwrap();
    store.delete_log_stream(&account(), GROUP, "gone").await.unwrap().unwrap();
    for (order, expected) in [
        (StreamOrder::Name { prefix: "" }, vec!["a", "aa", "ab", "ac", "b"]),
        (StreamOrder::Name { prefix: "a" }, vec!["a", "aa", "ab", "ac"]),
        (StreamOrder::Name { prefix: "ab" }, vec!["ab"]),
        (StreamOrder::LastEvent, vec!["a", "ac", "aa", "b", "ab"]),
    ] {
        for limit in [1, 2, 100] {
            assert_eq!(names(&store, order, false, limit).await, expected, "{order:?}");
            let reversed: Vec<_> = expected.iter().rev().copied().collect();
            assert_eq!(names(&store, order, true, limit).await, reversed, "{order:?}");
        }
    }
}

/// The kind: what one request costs is bounded, whatever is stored: here lines of a deleted stream.
#[tokio::test]
async fn a_page_ends_after_so_many_rows_although_none_is_shown() {
    let store = Store::temporary().await.unwrap();
    store.append_log(&account(), GROUP, "gone", &lines(500, 10)).await.unwrap();
    store.append_log(&account(), GROUP, "there", &lines(1, 10)).await.unwrap();
    store.delete_log_stream(&account(), GROUP, "gone").await.unwrap().unwrap();
    let (account, mut pages, mut found) = (account(), 0, 0);
    let (after, before) = (LogPosition::START, LogPosition::END);
    let order = EventOrder::Oldest;
    let mut query =
        LogQuery { account: &account, group: GROUP, stream: None, after, before, order, limit: 200 };
    loop {
        let page = store.log_events(&query).await.unwrap().unwrap();
        assert!(page.looked_at <= 200);
        (pages, found) = (pages + 1, found + page.events.len());
        if !page.full {
            break;
        }
        query.after = page.last.unwrap();
    }
    assert_eq!((pages, found), (3, 1));
}

/// The kind: what is looked for is found by an index, not by a walk over what everybody has.
#[tokio::test]
async fn counts_and_sweeps_look_at_one_account_only() {
    let store = Store::temporary().await.unwrap();
    for (statement, index) in [
        ("SELECT coalesce(sum(stored_bytes), 0) FROM log_groups WHERE account = ?", "log_groups_by_account"),
        ("SELECT coalesce(sum(stream_count), 0) FROM log_groups WHERE account = ?", "log_groups_by_account"),
        (sweep::DELETED_STREAMS, "log_streams_gone (group_id=?)"),
        (sweep::EMPTY_STREAMS, "log_streams_by_use (group_id=? AND used_at<?)"),
        ("SELECT id FROM log_streams WHERE group_id = ? LIMIT ?", "log_streams_by_use (group_id=?)"),
    ] {
        let plan = store.plan(statement);
        assert!(plan.contains(index) && !plan.contains("SCAN"), "{statement}: {plan}");
    }
}

/// Databases of before this version, where a deleted stream's bytes had been given back,
/// open and come out even.
#[tokio::test]
async fn counts_of_a_database_of_before_are_made_right() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hearth.db");
    let connection = crate::migrations::database_before(&path, 12);
    connection.execute_batch(
        "INSERT INTO log_groups (id, account, name, created_at, stored_bytes) VALUES (1, '111111111111', 'group', 0, 28);
         INSERT INTO log_streams (id, group_id, name, created_at, last_event_at, stored_bytes, gone)
             VALUES (1, 1, 'there', 0, 5, 28, 0), (2, 1, 'empty', 0, NULL, 0, 0), (3, 1, 'gone', 0, 5, 500, 1);
         INSERT INTO log_events (group_id, stream_id, timestamp, ingested_at, message)
             VALUES (1, 1, 5, 5, 'ab'), (1, 3, 5, 5, 'half of it was removed');",
    )
    .unwrap();
    drop(connection);
    let store = Store::open(&path).await.unwrap();
    assert_eq!(store.number("SELECT stream_count FROM log_groups"), 3);
    assert!(!step(&store, &account(), LogSweep::DeletedStreams).await);
    assert_eq!((stored_bytes(&store), store.number("SELECT stream_count FROM log_groups")), (28, 2));
    assert_eq!(names(&store, StreamOrder::LastEvent, true, 1).await, ["there", "empty"]);
}
