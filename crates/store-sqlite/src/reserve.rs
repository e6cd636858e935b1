//! A full disk must not stop records: what becomes of microVMs then has to be written too.
//!
//! The database keeps room for records inside of itself, as pages that hold nothing, and a
//! write-ahead log that is as long already; nobody else can take that. When little is left on the
//! disk, whatever would use it up is refused: output of apps and builds, and all that clients make.
//! What frees room, and what becomes of microVMs and builds that there are, is written.

use rusqlite::{ErrorCode, Transaction};

use crate::writer::{Durability, Urgency};
use crate::{Error, Result, Store, rows};

/// Bytes kept inside of the database: some ten thousand changes of microVMs.
const RESERVE_BYTES: i64 = 8 << 20;
/// With less left on the disk, nothing but records is written.
pub(crate) const MINIMUM_ROOM_MIB: u64 = 64;

impl Store {
    /// Makes room inside of the database, where there is less than there should be. On a full
    /// disk it stays as it is.
    pub(crate) async fn make_reserve(&self) -> Result<()> {
        // Two transactions: pages that are used and freed by the same one are never written.
        let insert = format!("INSERT INTO reserve (bytes) VALUES (zeroblob({RESERVE_BYTES}))");
        for statement in [insert, "DELETE FROM reserve".to_owned()] {
            let make = move |tx: &Transaction<'_>| rows::run(tx, &statement, []);
            match self.writer.write(Urgency::Record, Durability::Process, make, |_| ()).await {
                Ok(_) => {}
                Err(error) if is_full(&error) => {
                    tracing::warn!(path = %self.path.display(), "the disk is full: no room can be kept for records");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// [`Error::NoRoom`] when the disk is nearly full, and what is no record must not be written.
    pub(crate) fn room(&self) -> Result<()> {
        // A file system that does not say what it has is not full.
        let found = fs4::available_space(&self.path);
        if found.is_ok_and(|bytes| bytes < MINIMUM_ROOM_MIB << 20) { Err(Error::NoRoom) } else { Ok(()) }
    }
}

fn is_full(error: &Error) -> bool {
    let error = match error {
        Error::Statement(error) => error,
        Error::Together(error) => error.as_ref(),
        _ => return false,
    };
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

#[cfg(test)]
mod tests {
    use hearth_records::Logs as _;

    use super::*;

    #[tokio::test]
    async fn the_database_has_room_when_its_file_cannot_grow() {
        let store = Store::temporary().await.unwrap();
        store.make_reserve().await.unwrap();
        let pages = store.number("PRAGMA page_count");
        store.limit_pages(pages).await;
        let write = async |bytes: i64| {
            let insert = "INSERT INTO reserve VALUES (zeroblob(?))";
            let insert = move |tx: &Transaction<'_>| rows::run(tx, insert, [bytes]);
            store.writer.write(Urgency::Record, Durability::Disk, insert, |_| ()).await
        };
        write(RESERVE_BYTES / 2).await.unwrap();
        let refused = write(RESERVE_BYTES).await.unwrap_err();
        assert!(is_full(&refused), "{refused}");
        store.make_reserve().await.unwrap();
    }

    #[tokio::test]
    async fn output_is_refused_on_a_disk_that_is_nearly_full() {
        // Of procfs statvfs(3) says that it has no room at all.
        let store = Store {
            path: std::path::Path::new("/proc/self/stat").into(),
            ..Store::temporary().await.unwrap()
        };
        let account = hearth_api::AccountId::from_stored("1");
        let line = [(hearth_api::Timestamp::from_millis(1), "line".to_owned())];
        let refused = store.append_log(&account, "group", "stream", &line).await.unwrap_err();
        assert!(matches!(refused, hearth_records::Error::NoRoom { .. }), "{refused}");
        let refused = store.put_log_events(&account, "group", "stream", &line).await.unwrap_err();
        assert!(matches!(refused, hearth_records::Error::NoRoom { .. }), "{refused}");
    }

    #[tokio::test]
    async fn opening_again_makes_the_file_no_longer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hearth.db");
        let mut lengths = Vec::new();
        for _ in 0..3 {
            Store::open(&path).await.unwrap().close().await;
            lengths.push(std::fs::metadata(&path).unwrap().len());
        }
        assert!(lengths[0] as i64 > RESERVE_BYTES, "{lengths:?}");
        assert_eq!(lengths[0], lengths[2], "{lengths:?}");
    }
}
