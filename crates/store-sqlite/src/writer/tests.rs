//! What becomes of changes: in which order, together or alone, and how safely.

use super::*;

const INSERT: &str = "INSERT INTO identities VALUES ('a', 'user', ?, '{}')";

fn names(store: &Store) -> Vec<String> {
    let query = "SELECT name FROM identities ORDER BY rowid";
    store.read(|connection| rows::all(connection, query, [], |row| Ok(row.get(0)?))).unwrap()
}

async fn insert(store: &Store, urgency: Urgency, name: &'static str) {
    let change = move |tx: &Transaction<'_>| rows::run(tx, INSERT, [name]);
    store.writer.write(urgency, Durability::Disk, change, |_| ()).await.unwrap();
}

#[tokio::test]
async fn what_fails_or_panics_leaves_nothing_and_the_next_change_is_made() {
    let store = Store::temporary().await.unwrap();
    let write = async |end: fn() -> Result<()>| {
        let change = move |tx: &Transaction<'_>| {
            rows::run(tx, INSERT, ["ann"])?;
            end()
        };
        store.writer.write(Urgency::Record, Durability::Disk, change, |_| ()).await
    };
    assert!(matches!(write(|| Err(Error::NoRoom)).await, Err(Error::NoRoom)));
    assert!(matches!(write(|| panic!("as the test wants it")).await, Err(Error::Panicked)));
    assert_eq!(names(&store), [""; 0]);
    write(|| Ok(())).await.unwrap();
    assert_eq!(names(&store), ["ann"]);
}

#[tokio::test]
async fn changes_that_wait_are_made_together_and_one_that_fails_takes_no_other_with_it() {
    let store = Store::temporary().await.unwrap();
    let (proceed_tx, proceed_rx) = std::sync::mpsc::channel::<()>();
    let hold = store.write(Durability::Disk, move |_| Ok(proceed_rx.recv().is_ok()));
    let commits = |store: &Store| store.number("PRAGMA data_version");
    let before = commits(&store);
    let write = |name: &'static str, end: fn() -> Result<()>| {
        let change = move |tx: &Transaction<'_>| {
            rows::run(tx, INSERT, [name])?;
            end()
        };
        store.writer.write(Urgency::Record, Durability::Disk, change, |_| ())
    };
    let changes = [
        write("first", || Ok(())),
        write("fails", || Err(Error::NoRoom)),
        write("panics", || panic!("as the test wants it")),
        write("last", || Ok(())),
    ];
    let proceed = async { proceed_tx.send(()).unwrap() };
    let (proceeded, done, ()) = futures::join!(hold, futures::future::join_all(changes), proceed);
    assert!(proceeded.unwrap());
    assert!(matches!(done[..], [Ok(()), Err(Error::NoRoom), Err(Error::Panicked), Ok(())]));
    assert_eq!(names(&store), ["first", "last"]);
    assert_eq!(commits(&store) - before, 1, "what waited was one transaction; the first changed nothing");
}

#[tokio::test]
async fn a_change_without_room_takes_no_other_with_it_for_long() {
    let store = Store::temporary().await.unwrap();
    store.execute("VACUUM");
    store.limit_pages(store.number("PRAGMA page_count") + 4).await;
    let put = |name: &'static str, bytes: usize| {
        let value = "x".repeat(bytes);
        let insert = "INSERT INTO identities VALUES ('a', 'user', ?, ?)";
        let change = move |tx: &Transaction<'_>| rows::run(tx, insert, [name, &value]);
        store.writer.write(Urgency::Record, Durability::Disk, change, |_| ())
    };
    let (proceed_tx, proceed_rx) = std::sync::mpsc::channel::<()>();
    let hold = store.write(Durability::Disk, move |_| Ok(proceed_rx.recv().is_ok()));
    let proceed = async { proceed_tx.send(()).unwrap() };
    let (_, _, large, ()) = futures::join!(hold, put("small", 10), put("large", 1 << 20), proceed);
    large.unwrap_err();
    put("small again", 10).await.unwrap();
    assert!(names(&store).contains(&"small again".to_owned()));
}

#[tokio::test]
async fn records_overtake_bulk_and_what_waits_is_made_before_the_end() {
    let store = Store::temporary().await.unwrap();
    let (proceed_tx, proceed_rx) = std::sync::mpsc::channel::<()>();
    let hold = store.write(Durability::Disk, move |_| Ok(proceed_rx.recv().is_ok()));
    let bulk = insert(&store, Urgency::Bulk, "bulk");
    let record = insert(&store, Urgency::Record, "record");
    let proceed = async { proceed_tx.send(()).unwrap() };
    // Futures are polled in this order, so all are in the queue before the first goes on.
    let (proceeded, (), (), ()) = futures::join!(hold, bulk, record, proceed);
    assert!(proceeded.unwrap());
    assert_eq!(names(&store), ["record", "bulk"]);

    let (proceed_tx, proceed_rx) = std::sync::mpsc::channel::<()>();
    let hold = store.write(Durability::Disk, move |_| Ok(proceed_rx.recv().is_ok()));
    assert!(futures::FutureExt::now_or_never(hold).is_none());
    assert!(futures::FutureExt::now_or_never(insert(&store, Urgency::Bulk, "last")).is_none());
    let closing = store.writer.clone();
    let closing = tokio::spawn(async move { closing.close().await });
    proceed_tx.send(()).unwrap();
    closing.await.unwrap();
    assert_eq!(names(&store), ["record", "bulk", "last"]);
    let refused = store.writer.write(Urgency::Record, Durability::Disk, |_| Ok(()), |_| ()).await;
    assert!(matches!(refused, Err(Error::Closed)));
}

#[tokio::test]
async fn a_change_waits_for_the_disk_when_it_is_to_survive_a_power_failure() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("hearth.db")).await.unwrap();
    let level = async |durability| {
        let level = |tx: &Transaction<'_>| rows::value::<i64>(tx, "PRAGMA synchronous", []);
        store.write(durability, level).await.unwrap()
    };
    let (full, normal) = (2, 1);
    for (durability, expected) in
        [(Durability::Process, normal), (Durability::Disk, full), (Durability::Process, normal)]
    {
        assert_eq!(level(durability).await, expected, "{durability:?}");
    }
}
