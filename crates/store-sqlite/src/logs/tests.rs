//! The store's logs, on a database in memory or on disk.

use std::sync::Arc;

use std::collections::BTreeMap;

use hearth_api::{AccountId, Timestamp};
use hearth_log_writer::LogWriter;
use hearth_records::{
    CurrentLimits, Error, EventOrder, Found, Limits, LogDestination, LogPage, LogPosition, LogQuery,
    LogQuota, LogSweep, Logs as _, MissingLog,
};

use crate::Store;

const DAY: i64 = 24 * 60 * 60 * 1000;
const GROUP: &str = "group";

fn account() -> AccountId {
    AccountId::from_stored("111111111111")
}

fn lines(times: &[i64]) -> Vec<(Timestamp, String)> {
    times.iter().map(|time| (Timestamp::from_millis(*time), format!("at {time}"))).collect()
}

async fn page(store: &Store, account: &AccountId, stream: Option<&str>) -> Found<LogPage> {
    let (after, before) = (LogPosition::START, LogPosition::END);
    let query =
        LogQuery { account, group: GROUP, stream, after, before, order: EventOrder::Oldest, limit: 100_000 };
    store.log_events(&query).await.unwrap()
}

async fn messages(store: &Store, stream: Option<&str>) -> Vec<String> {
    page(store, &account(), stream).await.unwrap().events.into_iter().map(|event| event.message).collect()
}

async fn stored_bytes(store: &Store) -> u64 {
    store.log_group(&account(), GROUP).await.unwrap().unwrap().stored_bytes
}

/// One step of each kind for each account; how many of them may have more to do.
async fn round(store: &Store, now: i64, maximum: Option<u64>) -> usize {
    let mut more = 0;
    for account in store.accounts_with_logs().await.unwrap() {
        for what in LogSweep::ALL {
            let now = Timestamp::from_millis(now);
            more += usize::from(store.sweep_logs(&account, what, now, maximum).await.unwrap());
        }
    }
    more
}

/// Sweeps until nothing is left to do; how many rounds had something to do.
async fn sweep(store: &Store, now: i64, maximum: Option<u64>) -> usize {
    let mut rounds = 0;
    while round(store, now, maximum).await > 0 {
        rounds += 1;
        assert!(rounds < 100, "the sweep does not end");
    }
    rounds
}

#[tokio::test]
async fn events_are_in_the_order_of_their_times_and_pages_follow_on() {
    let store = Store::temporary().await.unwrap();
    store.append_log(&account(), GROUP, "a", &lines(&[10, 30, 30])).await.unwrap();
    store.append_log(&account(), GROUP, "b", &lines(&[20])).await.unwrap();
    assert_eq!(messages(&store, None).await, ["at 10", "at 20", "at 30", "at 30"]);
    assert_eq!(messages(&store, Some("a")).await, ["at 10", "at 30", "at 30"]);
    let account = account();
    let mut query = LogQuery {
        account: &account,
        group: GROUP,
        stream: None,
        after: LogPosition::START,
        before: LogPosition::END,
        order: EventOrder::Newest,
        limit: 2,
    };
    let newest = store.log_events(&query).await.unwrap().unwrap();
    assert!(newest.full);
    assert_eq!(newest.events.iter().map(|event| event.id).collect::<Vec<_>>(), [2, 3]);
    query.before = newest.events[0].position();
    let before = store.log_events(&query).await.unwrap().unwrap();
    assert_eq!(before.events.iter().map(|event| event.id).collect::<Vec<_>>(), [1, 4]);
}

#[tokio::test]
async fn a_page_ends_after_a_mebibyte() {
    let store = Store::temporary().await.unwrap();
    let long: Vec<_> = (0..20).map(|n| (Timestamp::from_millis(n), "x".repeat(100 << 10))).collect();
    store.append_log(&account(), GROUP, "a", &long).await.unwrap();
    let page = page(&store, &account(), None).await.unwrap();
    assert_eq!((page.events.len(), page.full), (11, true));
}

#[tokio::test]
async fn accounts_do_not_see_each_others_groups() {
    let store = Store::temporary().await.unwrap();
    let other = AccountId::from_stored("222222222222");
    store.append_log(&account(), GROUP, "a", &lines(&[1])).await.unwrap();
    assert_eq!(page(&store, &other, None).await, Err(MissingLog::Group));
    assert!(store.create_log_group(&other, GROUP, &BTreeMap::new()).await.unwrap());
    assert_eq!(page(&store, &other, Some("a")).await, Err(MissingLog::Stream));
    assert!(store.delete_log_group(&other, GROUP).await.unwrap());
    assert_eq!(messages(&store, None).await, ["at 1"]);
}

#[tokio::test]
async fn what_is_deleted_is_gone_at_once_and_may_be_made_again() {
    let store = Store::temporary().await.unwrap();
    let many: Vec<i64> = (0..2500).collect();
    store.append_log(&account(), GROUP, "a", &lines(&many)).await.unwrap();
    store.append_log(&account(), GROUP, "b", &lines(&[1])).await.unwrap();
    store.delete_log_stream(&account(), GROUP, "a").await.unwrap().unwrap();
    assert_eq!(store.delete_log_stream(&account(), GROUP, "a").await.unwrap(), Err(MissingLog::Stream));
    store.append_log(&account(), GROUP, "a", &lines(&[7])).await.unwrap();
    assert_eq!(messages(&store, Some("a")).await, ["at 7"]);
    assert_eq!(sweep(&store, 0, None).await, 2);
    assert_eq!(stored_bytes(&store).await, 2 * (26 + 4));
    assert_eq!(messages(&store, None).await, ["at 1", "at 7"]);
    assert!(store.delete_log_group(&account(), GROUP).await.unwrap());
    assert!(!store.delete_log_group(&account(), GROUP).await.unwrap());
    store.append_log(&account(), GROUP, "a", &lines(&[8])).await.unwrap();
    sweep(&store, 0, None).await;
    assert_eq!(messages(&store, None).await, ["at 8"]);
    assert_eq!(store.number("SELECT count(*) FROM log_events"), 1);
}

#[tokio::test]
async fn events_older_than_the_retention_go_in_bounded_steps_and_empty_streams_with_them() {
    let store = Store::temporary().await.unwrap().with_log_retention(Some(3));
    let now = Timestamp::now().as_millis();
    let old: Vec<i64> = (0..2001).map(|n| now - 3 * DAY - 3000 + n).collect();
    store.append_log(&account(), GROUP, "old", &lines(&old)).await.unwrap();
    store.append_log(&account(), GROUP, "new", &lines(&[now - 2 * DAY])).await.unwrap();
    assert_eq!(sweep(&store, now, None).await, 3);
    assert_eq!(messages(&store, None).await.len(), 1);
    assert_eq!(messages(&store, Some("old")).await.len(), 0);
    assert_eq!(stored_bytes(&store).await, 26 + messages(&store, None).await[0].len() as u64);
    sweep(&store, now + 4 * DAY, None).await;
    assert_eq!(page(&store, &account(), Some("old")).await, Err(MissingLog::Stream));
    assert_eq!(stored_bytes(&store).await, 0);
}

#[tokio::test]
async fn without_a_retention_nothing_expires() {
    let store = Store::temporary().await.unwrap();
    store.append_log(&account(), GROUP, "a", &lines(&[1])).await.unwrap();
    assert_eq!(sweep(&store, i64::MAX / 2, None).await, 0);
    assert!(store.set_log_retention(&account(), GROUP, Some(1)).await.unwrap());
    assert!(store.set_log_retention(&account(), GROUP, None).await.unwrap());
    assert_eq!(sweep(&store, i64::MAX / 2, None).await, 0);
    assert_eq!(messages(&store, None).await, ["at 1"]);
}

#[tokio::test]
async fn the_oldest_lines_of_a_group_that_is_too_large_go_and_no_more_than_needed() {
    let store = Store::temporary().await.unwrap();
    store.append_log(&account(), GROUP, "b", &lines(&[5, 6])).await.unwrap();
    store.append_log(&account(), GROUP, "a", &lines(&[1, 2, 3])).await.unwrap();
    sweep(&store, 0, Some(2 * 30 + 1)).await;
    assert_eq!(messages(&store, None).await, ["at 5", "at 6"]);
    assert_eq!(stored_bytes(&store).await, 60);
    assert_eq!(sweep(&store, 0, Some(60)).await, 0);
}

#[tokio::test]
async fn lines_get_through_while_a_large_group_is_swept() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("hearth.db")).await.unwrap();
    let many: Vec<i64> = (0..20_000).collect();
    store.append_log(&account(), GROUP, "a", &lines(&many)).await.unwrap();
    let sweeping = tokio::spawn({
        let store = store.clone();
        async move { sweep(&store, 0, Some(30_000)).await }
    });
    let mut written = 0;
    while !sweeping.is_finished() {
        store.append_log(&account(), "other", "b", &lines(&[written])).await.unwrap();
        written += 1;
        tokio::task::yield_now().await;
    }
    assert!(sweeping.await.unwrap() >= 19);
    assert!(written > 0, "no write came through");
}

#[tokio::test]
async fn a_writer_keeps_order_and_gathers_lines() {
    let store = Store::temporary().await.unwrap();
    let writer =
        LogWriter::start(Arc::new(store.clone()), LogDestination::own(account(), GROUP.into(), "a".into()));
    let expected: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    for chunk in expected.chunks(7) {
        writer.room().await.unwrap().send(chunk.to_vec());
    }
    writer.flush().await;
    assert_eq!(messages(&store, Some("a")).await, expected);
}

#[tokio::test]
async fn lines_survive_a_store_that_is_full_for_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("hearth.db")).await.unwrap();
    // Without the room that is kept inside.
    store.execute("VACUUM");
    store.limit_pages(store.number("PRAGMA page_count")).await;
    let writer =
        LogWriter::start(Arc::new(store.clone()), LogDestination::own(account(), GROUP.into(), "a".into()));
    let long = "x".repeat(60_000);
    writer.room().await.unwrap().send(vec![long.clone()]);
    assert!(
        store.append_log(&account(), GROUP, "b", &[(Timestamp::from_millis(1), long.clone())]).await.is_err()
    );
    writer.room().await.unwrap().send(vec!["after".to_owned()]);
    store.limit_pages(1_000_000).await;
    writer.flush().await;
    assert_eq!(messages(&store, Some("a")).await, [long, "after".to_owned()]);
}

#[tokio::test]
async fn logs_of_a_database_of_before_accounts_belong_to_the_account_that_opens_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hearth.db");
    let connection = crate::migrations::database_before(&path, 5);
    connection
        .execute_batch(
            "INSERT INTO log_groups VALUES ('group', 7);
         INSERT INTO log_streams VALUES (3, 'group', 'a', 8, 20, 2);
         INSERT INTO log_events VALUES (11, 3, 0, 20, 'first'), (12, 3, 1, 20, 'zwölf');
         INSERT INTO client_tokens VALUES ('1', 'RunMicrovm', 'token', '', '');",
        )
        .unwrap();
    drop(connection);
    let store = Store::open(&path).await.unwrap();
    store.adopt_log_groups(&account()).await.unwrap();
    assert_eq!(messages(&store, Some("a")).await, ["first", "zwölf"]);
    assert_eq!(stored_bytes(&store).await, 5 + 6 + 2 * 26);
    store.append_log(&account(), GROUP, "a", &lines(&[30])).await.unwrap();
    assert_eq!(messages(&store, None).await, ["first", "zwölf", "at 30"]);
    store.adopt_log_groups(&AccountId::from_stored("2")).await.unwrap();
    assert_eq!(messages(&store, None).await.len(), 3);
    assert!(store.number("SELECT created_at FROM client_tokens") > 1_700_000_000_000);
}

fn image() -> hearth_api::ImageArn {
    hearth_api::ImageArn::parse("arn:aws:lambda:us-east-1:111111111111:microvm-image:app").unwrap()
}

/// Lets only what `0` says be written.
#[derive(Debug)]
struct Rights(std::sync::atomic::AtomicBool);

impl hearth_records::LogRights for Rights {
    fn may_write(
        &self,
        _: &LogDestination,
        _: hearth_records::LogActions,
        _: &std::collections::BTreeMap<String, String>,
    ) -> std::result::Result<(), String> {
        let allowed = self.0.load(std::sync::atomic::Ordering::Relaxed);
        allowed.then_some(()).ok_or_else(|| "it may not".to_owned())
    }
}

/// The kind: an effect is authorised when it happens.
#[tokio::test]
async fn nothing_is_written_to_a_named_group_without_the_right_to() {
    use std::sync::atomic::Ordering;
    let rights = std::sync::Arc::new(Rights(false.into()));
    let store = Store::temporary().await.unwrap().with_log_rights(rights.clone());
    let wanted = hearth_api::CloudWatchLogging { log_group: Some("/audit".into()), log_stream: None };
    let wanted = hearth_api::Logging::CloudWatch(wanted);
    let named = || hearth_records::WrittenFor::Nobody;
    let to = LogDestination::new(Some(&wanted), account(), &image(), "a".into(), named).unwrap();
    let writer = LogWriter::start(Arc::new(store.clone()), to);
    let send = async |line: &str| {
        writer.room().await.unwrap().send(vec![line.to_owned()]);
        writer.flush().await;
    };
    send("forged").await;
    send("forged").await;
    assert_eq!(store.log_group(&account(), "/audit").await.unwrap(), None);
    rights.0.store(true, Ordering::Relaxed);
    send("allowed").await;
    rights.0.store(false, Ordering::Relaxed);
    send("forged").await;
    let messages = async |group: &str| {
        let query = LogQuery {
            account: &account(),
            group,
            stream: None,
            after: LogPosition::START,
            before: LogPosition::END,
            order: EventOrder::Oldest,
            limit: 10,
        };
        let events = store.log_events(&query).await.unwrap().unwrap().events;
        events.into_iter().map(|event| event.message).collect::<Vec<_>>()
    };
    assert_eq!(messages("/audit").await, ["allowed"]);
    let note = "[hearth] Output is not written to the log group /audit: it may not";
    assert_eq!(messages("/aws/lambda-microvms/app").await, [note, note], "once for each time that it begins");
    // Another stream of the service's own group is a choice as well.
    let stream = hearth_api::CloudWatchLogging { log_group: None, log_stream: Some("b".into()) };
    let stream = hearth_api::Logging::CloudWatch(stream);
    let to = LogDestination::new(Some(&stream), account(), &image(), "a".into(), named).unwrap();
    assert_eq!(to.written_for, hearth_records::WrittenFor::Nobody);
    let own = LogDestination::new(None, account(), &image(), "a".into(), named).unwrap();
    assert_eq!(own.written_for, hearth_records::WrittenFor::Service);
}

/// The kind: nobody can use the last of anything.
#[tokio::test]
async fn an_account_has_so_many_groups_and_bytes_and_no_more() {
    let quotas = hearth_records::LogQuotas { groups: Some(2), streams: None, bytes: Some(10_000) };
    let store = Store::temporary()
        .await
        .unwrap()
        .with_limits(CurrentLimits::new(Limits { logs: quotas, ..Limits::default() }));
    let other = AccountId::from_stored("222222222222");
    let make = async |account: &AccountId, name: &str| {
        store.create_log_group(account, name, &BTreeMap::default()).await
    };
    assert!(make(&account(), "a").await.unwrap() && make(&account(), "b").await.unwrap());
    assert!(!make(&account(), "a").await.unwrap(), "that it exists is said first");
    assert!(matches!(make(&account(), "c").await, Err(Error::LogQuota(LogQuota::Groups(2)))));
    let line = |bytes: usize| [(Timestamp::now(), "x".repeat(bytes))];
    let refused = store.append_log(&account(), "c", "s", &line(1)).await;
    assert!(matches!(refused, Err(Error::LogQuota(LogQuota::Groups(2)))), "nor by output");
    assert!(make(&other, "c").await.unwrap(), "another account has its own");

    store.append_log(&account(), "a", "s", &line(6_000)).await.unwrap();
    store.create_log_stream(&account(), "b", "s").await.unwrap();
    let put = async |bytes| store.put_log_events(&account(), "b", "s", &line(bytes)).await;
    put(3_000).await.unwrap().unwrap();
    assert!(matches!(put(1_000).await, Err(Error::LogQuota(LogQuota::Bytes(10_000)))));
    store.append_log(&account(), "a", "s", &line(3_000)).await.unwrap();
    assert!(store.append_log(&account(), "a", "s", &line(1)).await.is_err(), "far too much");
    store.append_log(&other, "c", "s", &line(6_000)).await.unwrap();
    // The oldest lines of the largest group give way.
    sweep(&store, Timestamp::now().as_millis(), None).await;
    let bytes = async |group: &str| store.log_group(&account(), group).await.unwrap().unwrap().stored_bytes;
    assert_eq!((bytes("a").await, bytes("b").await), (3_026, 3_026));
    put(1_000).await.unwrap().unwrap();
}
