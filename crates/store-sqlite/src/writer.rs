//! The one connection that writes, on a thread of its own.
//!
//! A change is a closure that runs in a transaction. When it returns a value, the transaction is
//! committed; when it returns an error or panics, nothing of it is written. A refusal that is a
//! value must therefore come before the first statement that writes.
//!
//! Changes that wait for the disk, and for each other, are made in one transaction, each in a
//! savepoint of it: the disk is waited for once.
//!
//! A change that is in the queue is made even if its caller goes away. Changes of records are made
//! before lines of logs and sweeps, of which there may be many.

mod transactions;

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use hearth_api::MicrovmId;
use rusqlite::{Connection, OpenFlags, Transaction};
use tokio::sync::oneshot;

use crate::{Error, Result, Store, migrations, rows};
use transactions::{Database, Job, Made};

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

/// Most changes that are made in one transaction.
const TOGETHER: usize = 32;

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
        let mut database = Database::new(connection, syncing);
        migrations::apply(database.connection(), migrations::ALL)?;
        let queue = Arc::new(Queue::default());
        let serve = {
            let queue = queue.clone();
            move || {
                while let Some(jobs) = queue.next() {
                    database.make(jobs);
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
        let run = Box::new(move |tx: Result<&Transaction<'_>>| {
            let made = tx
                .and_then(|tx| catch_unwind(AssertUnwindSafe(|| change(tx))).unwrap_or(Err(Error::Panicked)));
            let kept = made.is_ok();
            let tell = Box::new(move |committed: Result<()>| {
                let done = made.and_then(|made| committed.map(|()| made));
                then(&done);
                // The caller may have gone away.
                drop(done_tx.send(done));
            });
            Made { kept, tell }
        });
        let job = Job { durability, run };
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

    /// Waits for the next jobs; `None` when there will be none.
    fn next(&self) -> Option<Vec<Job>> {
        let mut waiting = self.lock();
        loop {
            if let Some(first) = waiting.records.pop_front() {
                let mut jobs = vec![first];
                // Only those that wait for the disk gain by waiting for each other.
                while jobs.len() < TOGETHER
                    && let Durability::Disk = jobs[0].durability
                    && let Some(next) =
                        waiting.records.pop_front_if(|job| matches!(job.durability, Durability::Disk))
                {
                    jobs.push(next);
                }
                return Some(jobs);
            }
            let bulk = waiting.bulk.pop_front();
            if bulk.is_some() || waiting.closed {
                return bulk.map(|job| vec![job]);
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
mod tests;
