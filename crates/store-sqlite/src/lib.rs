//! The records in SQLite, log streams with them, and the layout of the files beside; the
//! only SQL of the project.
//!
//! Invariants: `MicrovmRecord.state` is written only through [`Store::update_microvm`], which
//! the supervisor of that microVM alone calls; a `clientToken` and the row that it names are
//! recorded in one transaction.
//!
//! Statements run on sqlx, which has threads of its own for them; what every poll reads runs on the
//! caller's (`readers`) or is in memory already (`recent`).
//!
//! Reading order: this file, then one file per table family.

mod client_tokens;
mod identities;
mod image_changes;
mod images;
mod log_quotas;
mod logs;
mod microvms;
mod network_connectors;
mod quotas;
mod readers;
mod recent;
mod records;
mod reserve;
mod retention;
mod tags;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hearth_records::{LogQuota, LogQuotas, LogRights};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, SqliteConnection};

use readers::Readers;
use recent::RecentMicrovms;
use reserve::MINIMUM_ROOM_MIB;

/// How long a statement waits for another's lock. Who commits holds it until the disk has what was
/// written, and on a disk that others keep busy that takes tens of seconds.
const BUSY_TIMEOUT: Duration = Duration::from_mins(1);

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
        source: sqlx::Error,
    },
    /// There is no place for a temporary database.
    #[error("cannot make a directory for a temporary database")]
    Temporary(#[source] std::io::Error),
    /// The schema could not be brought up to date.
    #[error("cannot bring the database schema up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("a database statement failed")]
    Statement(#[from] sqlx::Error),
    /// A read on the caller's thread failed.
    #[error("the database cannot be read")]
    Read(#[source] rusqlite::Error),
    /// The disk is nearly full, and what is left is for records.
    #[error("the disk has less than {MINIMUM_ROOM_MIB} MiB left, which are kept for records")]
    NoRoom,
    /// The account has as many log groups, or bytes in them, as it may have.
    #[error(transparent)]
    LogQuota(LogQuota),
    /// The service is being stopped.
    #[error("a change of the database was interrupted")]
    Interrupted,
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
    /// What it commits survives a power failure.
    pool: sqlx::SqlitePool,
    /// What it commits survives the death of any process; costs no wait for the disk.
    relaxed: sqlx::SqlitePool,
    /// Reads log groups, streams and events, of which a page may take long: nothing else waits
    /// for these connections.
    log_readers: sqlx::SqlitePool,
    path: Arc<Path>,
    /// Retention of log groups that output makes.
    log_retention_days: Option<u32>,
    log_quotas: LogQuotas,
    /// Without them nothing is written on anybody's behalf.
    log_rights: Option<Arc<dyn LogRights>>,
    readers: Readers,
    recent: RecentMicrovms,
    /// Where a temporary database is; goes with the last handle.
    _directory: Option<Arc<tempfile::TempDir>>,
}

impl Store {
    /// Opens (or makes) the database file and brings its schema up to date, with room for
    /// records when the disk is full.
    pub async fn open(path: &Path) -> Result<Self> {
        let durable = SqliteSynchronous::Full;
        let store = Self::connect(path, 4, [durable, SqliteSynchronous::Normal], None).await?;
        store.make_reserve().await?;
        Ok(store)
    }

    /// The same for a file that nobody needs after a power failure: writing is faster.
    pub async fn open_for_a_bench(path: &Path) -> Result<Self> {
        Self::connect(path, 4, [SqliteSynchronous::Off; 2], None).await
    }

    /// A database that lives as long as the handle; for tests.
    pub async fn temporary() -> Result<Self> {
        let directory = tempfile::tempdir().map_err(Error::Temporary)?;
        let path = directory.path().join("hearth.db");
        Self::connect(&path, 1, [SqliteSynchronous::Off; 2], Some(Arc::new(directory))).await
    }

    async fn connect(
        path: &Path,
        connections: u32,
        [durable, relaxed]: [SqliteSynchronous; 2],
        directory: Option<Arc<tempfile::TempDir>>,
    ) -> Result<Self> {
        let open_error = |source| Error::Open { path: path.display().to_string(), source };
        // Alone: a pool opens several at once, and whoever finds another one at a new database
        // cannot put it into WAL mode, nor waits for it (SQLITE_BUSY without the busy handler,
        // sqlite3_busy_handler()).
        let mut first = SqliteConnection::connect_with(&options(path, durable)).await.map_err(open_error)?;
        sqlx::migrate!().run(&mut first).await.map_err(Error::Migrate)?;
        let pool = pool(options(path, durable), connections).await.map_err(open_error)?;
        let relaxed = if relaxed == durable {
            pool.clone()
        } else {
            self::pool(options(path, relaxed), 2).await.map_err(open_error)?
        };
        let log_readers =
            self::pool(options(path, durable), hearth_records::LOG_READERS).await.map_err(open_error)?;
        first.close().await.map_err(open_error)?;
        Ok(Self {
            pool,
            relaxed,
            log_readers,
            path: path.into(),
            readers: Readers::new(path.to_owned()),
            recent: RecentMicrovms::new(),
            log_retention_days: None,
            log_quotas: LogQuotas::default(),
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
    pub fn with_log_quotas(self, log_quotas: LogQuotas) -> Self {
        Self { log_quotas, ..self }
    }

    /// The same store; output is written on behalf of those who may.
    pub fn with_log_rights(self, log_rights: Arc<dyn LogRights>) -> Self {
        Self { log_rights: Some(log_rights), ..self }
    }

    /// Closes all connections, writing what is pending.
    pub async fn close(&self) {
        self.readers.close();
        self.log_readers.close().await;
        self.relaxed.close().await;
        self.pool.close().await;
    }
}

fn options(path: &Path, synchronous: SqliteSynchronous) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

async fn pool(options: SqliteConnectOptions, connections: u32) -> sqlx::Result<sqlx::SqlitePool> {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        // A full disk ends a transaction by itself; sqlx then fails to roll it back, and
        // goes on counting it.
        .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
        .connect_with(options)
        .await
}

/// Turns stored text into a value, or says which column holds nonsense.
fn readable<T>(column: &'static str, text: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T> {
    parse(text).ok_or_else(|| Error::Unreadable { column, value: text.to_owned() })
}

/// Reads a JSON column.
fn from_json<T: serde::de::DeserializeOwned>(column: &'static str, text: &str) -> Result<T> {
    readable(column, text, |text| serde_json::from_str(text).ok())
}

/// Writes a JSON column.
fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("records serialise: they hold no maps with non-text keys")
}

#[cfg(test)]
impl Store {
    /// How SQLite would run a statement.
    async fn plan(&self, statement: &str) -> String {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let rows = sqlx::query(explain).fetch_all(&self.pool).await.expect("the statement is valid");
        rows.iter().map(|row| sqlx::Row::get::<String, _>(row, "detail")).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use hearth_api::Timestamp;

    use super::*;

    #[tokio::test]
    async fn after_a_full_disk_the_next_transaction_begins() {
        let store = Store::temporary().await.unwrap();
        // Without the room that is kept inside.
        sqlx::query("VACUUM").execute(&store.pool).await.unwrap();
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&store.pool).await.unwrap();
        let limit = format!("PRAGMA max_page_count = {}", pages + 4);
        sqlx::query(sqlx::AssertSqlSafe(limit)).execute(&store.pool).await.unwrap();
        let append = async |text: String| {
            let account = hearth_api::AccountId::from_stored("1");
            store.append_log(&account, "group", "stream", &[(Timestamp::from_millis(1), text)]).await
        };
        append("x".repeat(1 << 20)).await.unwrap_err();
        append("fits".to_owned()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_new_database_can_be_opened_at_once() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..100 {
            Store::open(&directory.path().join(number.to_string())).await.unwrap().close().await;
        }
    }
}
