//! The one connection that writes, on a thread of its own.
//!
//! A change is a closure that runs in a transaction. When it returns a value, the transaction is
//! committed; when it returns an error or panics, nothing of it is written. A refusal that is a
//! value must therefore come before the first statement that writes.
//!
//! A change that is in the queue is made even if its caller goes away. Changes of records are made
//! before lines of logs and sweeps, of which there may be many.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use hearth_api::MicrovmId;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::{Error, Result, Store, migrations, rows};

/// What a change survives once it has been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A power failure: the disk has it.
    Disk,
    /// The death of any process; costs no wait for the disk.
    Process,
}

/// How SQLite waits for the disk (`PRAGMA synchronous`).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Syncing {
    /// As each change wants it.
    ByChange,
    /// Never: nobody needs the file after a power failure.
    Off,
}

impl Syncing {
    fn pragma(self, durability: Durability) -> &'static str {
        match (self, durability) {
            (Self::Off, _) => "OFF",
            (Self::ByChange, Durability::Disk) => "FULL",
            (Self::ByChange, Durability::Process) => "NORMAL",
        }
    }
}

/// Which of the waiting changes are made first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Records: before everything else.
    Record,
    /// Lines of logs and sweeps.
    Bulk,
}

impl Store {
    /// Makes a change of records.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        change: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> hearth_records::Result<T> {
        let changed = self.changed.clone();
        let then = move |_: &Result<T>| changed.send_replace(());
        Ok(self.writer.write(Urgency::Record, durability, change, then).await?)
    }

    /// Makes a change of the row of a microVM, which is forgotten in memory before the caller
    /// learns of its end.
    pub(crate) async fn write_microvm<T: Send + 'static>(
        &self,
        id: MicrovmId,
        durability: Durability,
        change: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> hearth_records::Result<T> {
        let (recent, changed) = (self.recent.clone(), self.changed.clone());
        let then = move |_: &Result<T>| {
            recent.changed(&id);
            changed.send_replace(());
        };
        Ok(self.writer.write(Urgency::Record, durability, change, then).await?)
    }

    /// Brings what has been written so far to the disk, without a place in the queue: it is all in
    /// the log, which SQLite locks by another file, so that it may be opened here (`wal.html`).
    pub(crate) async fn sync_log(&self) -> Result<()> {
        let mut log = self.path.as_os_str().to_owned();
        log.push("-wal");
        let syncing = tokio::task::spawn_blocking(move || std::fs::File::open(log)?.sync_data());
        syncing.await.map_err(|_| Error::Panicked)?.map_err(Error::Sync)
    }

    /// Makes a change that may wait for those of records.
    pub(crate) async fn write_bulk<T: Send + 'static>(
        &self,
        durability: Durability,
        change: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> hearth_records::Result<T> {
        Ok(self.writer.write(Urgency::Bulk, durability, change, |_| ()).await?)
    }
}

/// A handle on the thread, which ends when the last clone has gone and all changes are made.
#[derive(Debug, Clone)]
pub(crate) struct Writer(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Writer {
    /// Opens (or makes) a database, brings its schema up to date and starts the thread.
    pub(crate) fn open(path: &Path, syncing: Syncing) -> Result<Self> {
        let connection =
            connect(path).map_err(|source| Error::Open { path: path.display().to_string(), source })?;
        let mut database = Database { connection, syncing, set: None };
        migrations::apply(&mut database.connection, migrations::ALL)?;
        let queue = Arc::new(Queue::default());
        let serve = {
            let queue = queue.clone();
            move || {
                while let Some(job) = queue.next() {
                    job(&mut database);
                }
            }
        };
        let thread = std::thread::Builder::new().name("records".to_owned()).spawn(serve);
        let thread = Mutex::new(Some(thread.map_err(Error::Thread)?));
        Ok(Self(Arc::new(Handle { queue, thread })))
    }

    /// Makes a change; `then` runs on the writer's thread after its end, before the caller learns
    /// of it.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        urgency: Urgency,
        durability: Durability,
        change: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
        then: impl FnOnce(&Result<T>) + Send + 'static,
    ) -> Result<T> {
        let (done_tx, done_rx) = oneshot::channel();
        let job = Box::new(move |database: &mut Database| {
            let change = AssertUnwindSafe(|| database.change(durability, change));
            let done = catch_unwind(change).unwrap_or(Err(Error::Panicked));
            then(&done);
            // The caller may have gone away.
            drop(done_tx.send(done));
        });
        self.0.queue.push(urgency, job)?;
        done_rx.await.unwrap_or(Err(Error::Closed))
    }

    /// Makes the changes that are waiting and closes the connection.
    pub(crate) async fn close(&self) {
        self.0.queue.close();
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Neither fails: no change makes the thread panic.
            drop(tokio::task::spawn_blocking(move || thread.join()).await);
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    rows::prepare(&connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

/// The connection, as its thread has it.
struct Database {
    connection: Connection,
    syncing: Syncing,
    /// What `PRAGMA synchronous` was last set to.
    set: Option<&'static str>,
}

impl Database {
    fn change<T>(
        &mut self,
        durability: Durability,
        change: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let wanted = self.syncing.pragma(durability);
        if self.set != Some(wanted) {
            self.connection.pragma_update(None, "synchronous", wanted)?;
            self.set = Some(wanted);
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = change(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }
}

type Job = Box<dyn FnOnce(&mut Database) + Send>;

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    records: VecDeque<Job>,
    bulk: VecDeque<Job>,
    closed: bool,
}

impl fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.lock();
        write!(formatter, "Queue({} records, {} bulk)", waiting.records.len(), waiting.bulk.len())
    }
}

impl Queue {
    fn push(&self, urgency: Urgency, job: Job) -> Result<()> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Error::Closed);
        }
        match urgency {
            Urgency::Record => waiting.records.push_back(job),
            Urgency::Bulk => waiting.bulk.push_back(job),
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for the next job; `None` when there will be none.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            let job = match waiting.records.pop_front() {
                Some(job) => Some(job),
                None => waiting.bulk.pop_front(),
            };
            if job.is_some() || waiting.closed {
                return job;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
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
}
