//! The records in SQLite, log streams with them, and the layout of the files beside; the
//! only SQL of the project.
//!
//! Invariants: a change of a microVM names what it saw, and its event is written in the same
//! transaction; a `clientToken` and the row that it names are recorded in one transaction.
//!
//! One connection writes, on a thread of its own (`writer`). What every poll reads is read on the
//! caller's thread (`readers`) or is in memory already (`recent`).
//!
//! Reading order: this file, `writer`, `readers`, then one file per table family.

mod client_tokens;
mod events;
mod identities;
mod image_changes;
mod image_rows;
mod images;
mod log_quotas;
mod logs;
mod microvms;
mod migrations;
mod network_connectors;
mod payloads;
mod quotas;
mod readers;
mod recent;
mod reserve;
mod rows;
mod shared;
mod tags;
mod writer;

use std::path::Path;
use std::sync::Arc;

use hearth_records::{CurrentLimits, LogQuota, LogRights};
use tokio::sync::{Semaphore, watch};

use readers::Readers;
use recent::RecentMicrovms;
use reserve::MINIMUM_ROOM_MIB;
use writer::{Syncing, Writer};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database could not be opened.
    #[error("cannot open the database {path}")]
    Open {
        /// Database file.
        path: String,
        /// Cause.
        #[source]
        source: rusqlite::Error,
    },
    /// There is no place for a temporary database.
    #[error("cannot make a directory for a temporary database")]
    Temporary(#[source] std::io::Error),
    /// The thread that writes could not be started.
    #[error("cannot start the thread that writes to the database")]
    Thread(#[source] std::io::Error),
    /// The schema could not be brought up to date.
    #[error("cannot bring the database schema up to date")]
    Migrate(#[source] rusqlite::Error),
    /// The schema is unknown.
    #[error(
        "a newer version of Hearth made this database (schema {version}): use that version or a later one"
    )]
    Newer {
        /// The step of the schema that is unknown.
        version: i64,
    },
    /// The transaction of a change, or of several, could not be committed.
    #[error("a transaction of the database failed")]
    Together(#[source] Arc<rusqlite::Error>),
    /// The disk did not take what was written.
    #[error("cannot bring the database to the disk")]
    Sync(#[source] std::io::Error),
    /// A statement failed.
    #[error("a database statement failed")]
    Statement(#[from] rusqlite::Error),
    /// The disk is nearly full, and what is left is for records.
    #[error("the disk has less than {MINIMUM_ROOM_MIB} MiB left, which are kept for records")]
    NoRoom,
    /// The account has as many log groups, or bytes in them, as it may have.
    #[error(transparent)]
    LogQuota(LogQuota),
    /// The database has been closed.
    #[error("the database is closed")]
    Closed,
    /// A read or a change panicked, or the service is ending; nothing was written.
    #[error("a read or a change of the database was broken off")]
    Panicked,
    /// A stored value does not fit its type.
    #[error("the database holds an unreadable {column}: {value}")]
    Unreadable {
        /// Column.
        column: &'static str,
        /// Stored text.
        value: String,
    },
}

impl From<Error> for hearth_records::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::NoRoom => Self::NoRoom { minimum_mib: MINIMUM_ROOM_MIB },
            Error::LogQuota(quota) => Self::LogQuota(quota),
            error => Self::Failed(Box::new(error)),
        }
    }
}

/// A handle on the database; clones share the connections.
#[derive(Debug, Clone)]
pub struct Store {
    path: Arc<Path>,
    /// Retention of log groups that output makes.
    log_retention_days: Option<u32>,
    limits: CurrentLimits,
    /// Without them nothing is written on anybody's behalf.
    log_rights: Option<Arc<dyn LogRights>>,
    writer: Writer,
    readers: Readers,
    /// Places for reading pages of logs.
    log_readers: Arc<Semaphore>,
    recent: RecentMicrovms,
    /// Told of every change of a record: there may be an event.
    changed: watch::Sender<()>,
    /// Where a temporary database is; goes with the last handle.
    _directory: Option<Arc<tempfile::TempDir>>,
}

impl Store {
    /// Opens (or makes) the database file and brings its schema up to date, with room for
    /// records when the disk is full.
    pub async fn open(path: &Path) -> Result<Self> {
        let store = Self::connect(path, Syncing::ByChange, None).await?;
        store.make_reserve().await?;
        Ok(store)
    }

    /// Opens a file that nobody needs after a power failure: writing is faster.
    pub async fn open_for_a_bench(path: &Path) -> Result<Self> {
        Self::connect(path, Syncing::Off, None).await
    }

    /// A database that lives as long as the handle; for tests.
    pub async fn temporary() -> Result<Self> {
        let directory = tempfile::tempdir().map_err(Error::Temporary)?;
        let path = directory.path().join("hearth.db");
        Self::connect(&path, Syncing::Off, Some(Arc::new(directory))).await
    }

    async fn connect(
        path: &Path,
        syncing: Syncing,
        directory: Option<Arc<tempfile::TempDir>>,
    ) -> Result<Self> {
        let path: Arc<Path> = path.into();
        let opening = tokio::task::spawn_blocking({
            let path = path.clone();
            move || Writer::open(&path, syncing)
        });
        let writer = opening.await.unwrap_or(Err(Error::Closed))?;
        Ok(Self {
            log_readers: Arc::new(Semaphore::new(hearth_records::LOG_READERS as usize)),
            writer,
            readers: Readers::new(path.to_path_buf()),
            path,
            recent: RecentMicrovms::new(),
            changed: watch::Sender::new(()),
            log_retention_days: None,
            limits: CurrentLimits::default(),
            log_rights: None,
            _directory: directory,
        })
    }

    /// The same store; log groups that output makes from now on keep their events for so many
    /// days (`None`: for ever).
    pub fn with_log_retention(self, days: Option<u32>) -> Self {
        Self { log_retention_days: days, ..self }
    }

    /// The same store with limits for each account's log groups.
    pub fn with_limits(self, limits: CurrentLimits) -> Self {
        Self { limits, ..self }
    }

    /// The same store; output is written on behalf of those who may.
    pub fn with_log_rights(self, log_rights: Arc<dyn LogRights>) -> Self {
        Self { log_rights: Some(log_rights), ..self }
    }

    /// Closes all connections, writing what is pending.
    pub async fn close(&self) {
        self.readers.close();
        self.writer.close().await;
    }
}

/// What tests need besides.
#[cfg(test)]
impl Store {
    /// A connection of the test's own.
    fn connection(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(&self.path).unwrap();
        rows::prepare(&connection).unwrap();
        connection
    }

    fn execute(&self, statements: &str) {
        self.connection().execute_batch(statements).unwrap();
    }

    /// The number that a query gives.
    fn number(&self, query: &str) -> i64 {
        self.readers.read(|connection| rows::value(connection, query, [])).unwrap()
    }

    /// Lets the file have so many pages: a disk that is full.
    async fn limit_pages(&self, pages: i64) {
        let limit = format!("PRAGMA max_page_count = {pages}");
        let limit = move |tx: &rusqlite::Transaction<'_>| rows::value::<i64>(tx, &limit, []);
        self.write(writer::Durability::Process, limit).await.unwrap();
    }

    /// How SQLite would run a statement.
    fn plan(&self, statement: &str) -> String {
        let explain = format!("EXPLAIN QUERY PLAN {statement}");
        let connection = self.connection();
        let mut explain = connection.prepare(&explain).unwrap();
        let mut rows = explain.raw_query();
        let mut steps = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            steps.push(row.get::<_, String>("detail").unwrap());
        }
        steps.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use hearth_records::{Identities as _, IdentityKind, IdentityRow, IdentityWrite};

    use super::*;

    #[tokio::test]
    async fn after_a_full_disk_the_next_transaction_begins() {
        let store = Store::temporary().await.unwrap();
        // Without the room that is kept inside.
        store.execute("VACUUM");
        store.limit_pages(store.number("PRAGMA page_count") + 4).await;
        let put = async |value: String| {
            let account = hearth_api::AccountId::from_stored("1");
            let row = IdentityRow { account, kind: IdentityKind::User, name: "ann".to_owned(), value };
            store.write_identities(0, &[IdentityWrite::Put(row)]).await
        };
        put("x".repeat(1 << 20)).await.unwrap_err();
        put("fits".to_owned()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_new_database_can_be_opened_at_once() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..100 {
            Store::open(&directory.path().join(number.to_string())).await.unwrap().close().await;
        }
    }
}
