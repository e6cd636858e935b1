//! Reads on the caller's thread: microVMs by id and lists of them, which are on the path of every
//! poll, and whatever else is found by an index.
//!
//! Handing a statement to another thread and its rows back costs several times what SQLite needs
//! for a row. What is read here is small and mostly in memory, so it holds up the caller's thread
//! for microseconds; in WAL mode no writer makes it wait. Pages of logs may take longer: they are
//! read on threads for blocking work.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};

use crate::{Error, Result, Store, rows};

/// Connections kept for reuse; more are opened when more read at once.
const KEPT: usize = 16;
/// How much of the file is read by mapping it, without a system call for each page.
const MAPPED_BYTES: i64 = 1 << 30;

impl Store {
    /// Reads on the caller's thread.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> hearth_records::Result<T> {
        Ok(self.readers.read(read)?)
    }

    /// Reads what may take long, when one of few places is free.
    pub(crate) async fn read_logs<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> hearth_records::Result<T> {
        let place = self.log_readers.clone().acquire_owned().await.map_err(|_| Error::Closed)?;
        let readers = self.readers.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let found = readers.read(read);
            drop(place);
            found
        });
        Ok(reading.await.unwrap_or(Err(Error::Panicked))?)
    }
}

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

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let connection = self.take()?;
        let found = read(&connection);
        // One that failed is not used again.
        if found.is_ok() {
            self.put_back(connection);
        }
        found
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        if let Some(connection) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(connection);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        // The busy timeout too: SQLite locks for readers anyway at times, such as when a connection
        // recovers the WAL.
        rows::prepare(&connection)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "mmap_size", MAPPED_BYTES)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::TransactionBehavior;

    #[tokio::test]
    async fn readers_see_what_was_committed_and_write_nothing() {
        let store = Store::temporary().await.unwrap();
        let count = || store.number("SELECT count(*) FROM identities");
        assert_eq!(count(), 0);
        store.execute("INSERT INTO identities VALUES ('a', 'user', 'ann', '{}')");
        assert_eq!(count(), 1);

        let mut writer = store.connection();
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        transaction.execute("DELETE FROM identities", []).unwrap();
        assert_eq!(count(), 1, "nobody waits for a writer, or sees what it has not committed");
        transaction.commit().unwrap();
        assert_eq!(count(), 0);

        let insert = "INSERT INTO identities VALUES ('b', 'user', 'ann', '{}')";
        let refused = store.readers.read(|connection| rows::run(connection, insert, []));
        assert!(matches!(refused, Err(Error::Statement(_))), "{refused:?}");
    }
}
