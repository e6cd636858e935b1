//! Reads that are on the path of every poll: microVMs by id, and lists of them.
//!
//! sqlx gives each connection a thread of its own and sends it statements and rows through
//! channels, which costs several times what SQLite needs for a row. These connections are used
//! where the caller runs. What they read is small, by an index and mostly in memory, so it holds up
//! the caller's thread for microseconds; in WAL mode no writer makes it wait.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Params, Row};

use crate::{BUSY_TIMEOUT, Error, Result};

/// Connections kept for reuse; more are opened when more read at once.
const KEPT: usize = 16;
/// How much of the file is read by mapping it, without a system call for each page.
const MAPPED_BYTES: i64 = 1 << 30;

/// Connections for reading; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    /// Readers of a database that exists and is in WAL mode.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, idle: Arc::default() }
    }

    /// All rows of a statement.
    pub(crate) fn all<T>(
        &self,
        query: &'static str,
        parameters: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let connection = self.take()?;
        let found = all(&connection, query, parameters, read);
        // One that failed is not used again.
        if found.is_ok() {
            self.put_back(connection);
        }
        found
    }

    fn take(&self) -> Result<Connection> {
        if let Some(connection) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(connection);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        // SQLite locks for readers all the same at times, such as when a connection
        // recovers the WAL.
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "mmap_size", MAPPED_BYTES)?;
        // Otherwise SQLite plans a statement anew whenever a value that is compared with an
        // indexed column changes.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(connection)
    }

    fn put_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(connection);
        }
    }

    /// Closes those that nobody uses.
    pub(crate) fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn all<T>(
    connection: &Connection,
    query: &str,
    parameters: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Read(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[tokio::test]
    async fn readers_see_what_was_committed_and_write_nothing() {
        let store = Store::temporary().await.unwrap();
        let count =
            || store.readers.all("SELECT count(*) FROM identities", [], |row| Ok(row.get::<_, i64>(0)?));
        assert_eq!(count().unwrap(), [0]);
        sqlx::query("INSERT INTO identities VALUES ('a', 'user', 'ann', '{}')")
            .execute(&store.pool)
            .await
            .unwrap();
        assert_eq!(count().unwrap(), [1]);

        let mut transaction = store.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        sqlx::query("DELETE FROM identities").execute(&mut *transaction).await.unwrap();
        assert_eq!(count().unwrap(), [1], "nobody waits for a writer, or sees what it has not committed");
        transaction.commit().await.unwrap();
        assert_eq!(count().unwrap(), [0]);

        let refused =
            store.readers.all("INSERT INTO identities VALUES ('b', 'user', 'ann', '{}')", [], |_| Ok(()));
        assert!(matches!(refused, Err(Error::Read(_))), "{refused:?}");
    }
}
