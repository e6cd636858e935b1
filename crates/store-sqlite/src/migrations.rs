//! The schema, brought up to date step by step.
//!
//! The steps that a database has had are in its table `_sqlx_migrations`, in the form in which sqlx
//! keeps it: earlier versions of Hearth wrote it with that, and refuse a database with steps that
//! they do not know.

use std::collections::BTreeSet;
use std::time::Instant;

use aws_lc_rs::digest::{SHA384, digest};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::{Error, Result};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (
    version        BIGINT PRIMARY KEY,
    description    TEXT NOT NULL,
    installed_on   TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success        BOOLEAN NOT NULL,
    checksum       BLOB NOT NULL,
    execution_time BIGINT NOT NULL
)";

/// A step, which never changes once it is released.
#[derive(Debug)]
pub(crate) struct Migration {
    version: i64,
    /// Name of its file, without the number.
    name: &'static str,
    statements: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal $file:literal,)*) => {
        &[$(Migration {
            version: $version,
            name: $name,
            statements: include_str!(concat!("../migrations/", $file, "_", $name, ".sql")),
        },)*]
    };
}

/// All steps in their order. The number 9 was set aside for a change that was never made.
pub(crate) const ALL: &[Migration] = migrations![
    1 "initial" "0001",
    2 "image_versions" "0002",
    3 "network_connectors" "0003",
    4 "memory_of_microvms" "0004",
    5 "logs_of_accounts" "0005",
    6 "identities" "0006",
    7 "microvms_by_version" "0007",
    8 "reserve" "0008",
    10 "output_positions" "0010",
    11 "token_revocations" "0011",
    12 "counted_and_found" "0012",
    13 "owners_and_events" "0013",
    14 "generations" "0014",
    15 "spent_snapshots_and_payloads" "0015",
    16 "shared" "0016",
    17 "snapshots_by_content" "0017",
    18 "egress_rules" "0018",
];

/// Makes the steps that a database has not had, each in a transaction.
pub(crate) fn apply(connection: &mut Connection, migrations: &[Migration]) -> Result<()> {
    connection.execute_batch(TABLE).map_err(Error::Migrate)?;
    let applied = applied(connection).map_err(Error::Migrate)?;
    let newer = |version: &&i64| ALL.iter().all(|migration| migration.version != **version);
    if let Some(version) = applied.iter().find(newer) {
        return Err(Error::Newer { version: *version });
    }
    for migration in migrations.iter().filter(|migration| !applied.contains(&migration.version)) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let made = transaction.and_then(|transaction| migration.make(transaction));
        made.map_err(Error::Migrate)?;
    }
    Ok(())
}

fn applied(connection: &Connection) -> rusqlite::Result<BTreeSet<i64>> {
    let mut statement = connection.prepare("SELECT version FROM _sqlx_migrations")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

impl Migration {
    fn make(&self, transaction: Transaction<'_>) -> rusqlite::Result<()> {
        // Another process may have opened the database at the same time.
        if applied(&transaction)?.contains(&self.version) {
            return Ok(());
        }
        let begin = Instant::now();
        transaction.execute_batch(self.statements)?;
        transaction.execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (?, ?, TRUE, ?, ?)",
            params![
                self.version,
                self.name.replace('_', " "),
                digest(&SHA384, self.statements.as_bytes()).as_ref(),
                begin.elapsed().as_nanos() as i64,
            ],
        )?;
        transaction.commit()
    }
}

/// A database as a version of Hearth left it whose last step was before `version`.
#[cfg(test)]
pub(crate) fn database_before(path: &std::path::Path, version: i64) -> Connection {
    let mut connection = Connection::open(path).unwrap();
    let end = ALL.iter().position(|migration| migration.version == version).unwrap();
    apply(&mut connection, &ALL[..end]).unwrap();
    connection
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, rows};

    /// What sqlx recorded of the first step.
    const CHECKSUM: &str =
        "AA294BBA77DC20FC1689399FFB30AE76A84CF4EDECEF90AE8D151BAD319391944B92B19509E5856099C552FCFA5F8585";

    #[test]
    fn every_file_is_a_step() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let file = |migration: &Migration| format!("{:04}_{}.sql", migration.version, migration.name);
        assert_eq!(ALL.iter().map(file).collect::<Vec<_>>(), files);
    }

    #[tokio::test]
    async fn a_database_that_sqlx_migrated_gets_the_steps_that_it_lacks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hearth.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(TABLE).unwrap();
        // One that came by a branch is there before those of lower numbers.
        for migration in ALL.iter().filter(|migration| migration.version < 8 || migration.version == 10) {
            connection.execute_batch(migration.statements).unwrap();
            let insert = "INSERT INTO _sqlx_migrations
                (version, description, success, checksum, execution_time) VALUES (?, 'old', TRUE, x'00', 7)";
            connection.execute(insert, [migration.version]).unwrap();
        }
        drop(connection);
        let store = Store::open(&path).await.unwrap();
        let query = "SELECT version, description, hex(checksum) FROM _sqlx_migrations ORDER BY version";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let found: Vec<(i64, String, String)> =
            store.read(|connection| rows::all(connection, query, [], read)).unwrap();
        assert_eq!(
            found.iter().map(|row| row.0).collect::<Vec<_>>(),
            ALL.iter().map(|step| step.version).collect::<Vec<_>>()
        );
        assert_eq!((found[0].1.as_str(), found[0].2.as_str()), ("old", "00"), "what was there stays");
        assert_eq!(found[10].1, "counted and found");

        let store = Store::temporary().await.unwrap();
        let found = store.read(|connection| rows::all(connection, query, [], read)).unwrap();
        assert_eq!((found.len(), found[0].2.as_str()), (ALL.len(), CHECKSUM));
    }

    #[tokio::test]
    async fn a_database_of_a_newer_version_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hearth.db");
        Store::open(&path).await.unwrap().close().await;
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("UPDATE _sqlx_migrations SET version = 99 WHERE version = 12").unwrap();
        let refused = Store::open(&path).await.unwrap_err();
        assert!(matches!(refused, Error::Newer { version: 99 }), "{refused}");
    }
}
