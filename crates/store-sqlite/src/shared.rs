//! What processes on the same records share: a row for each, with its version.

use async_trait::async_trait;
use hearth_records::{Result as Recorded, Setting, Shared, Versioned, Versions};
use rusqlite::Connection;

use crate::writer::Durability;
use crate::{Result, Store, rows};

/// Names of the rows.
pub(crate) const IDENTITIES: &str = "identities";
pub(crate) const REVOCATIONS: &str = "revocations";

fn name(setting: Setting) -> &'static str {
    match setting {
        Setting::TokenKeys => "token-keys",
        Setting::Limits => "limits",
    }
}

/// How many times it has changed.
pub(crate) fn version(connection: &Connection, name: &str) -> Result<u64> {
    let query = "SELECT version FROM shared WHERE name = ?";
    Ok(rows::value::<i64>(connection, query, [name])? as u64)
}

/// Counts a change, in the transaction that makes it; the new version.
pub(crate) fn changed(connection: &Connection, name: &str) -> Result<u64> {
    let count = "UPDATE shared SET version = version + 1 WHERE name = ? RETURNING version";
    Ok(rows::value::<i64>(connection, count, [name])? as u64)
}

#[async_trait]
impl Shared for Store {
    async fn versions(&self) -> Recorded<Versions> {
        let of = |connection: &Connection| {
            let query = "SELECT name, version FROM shared";
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)? as u64));
            rows::all(connection, query, [], read)
        };
        let found = self.read(of)?;
        let of = |wanted: &str| {
            let found = found.iter().find(|(name, _)| name == wanted);
            found.map(|(_, version)| *version).unwrap_or_default()
        };
        Ok(Versions {
            identities: of(IDENTITIES),
            revocations: of(REVOCATIONS),
            token_keys: of(name(Setting::TokenKeys)),
            limits: of(name(Setting::Limits)),
        })
    }

    async fn setting(&self, setting: Setting) -> Recorded<Versioned<Option<String>>> {
        let query = "SELECT version, value FROM shared WHERE name = ?";
        let found = self.read(|connection| {
            rows::one(connection, query, [name(setting)], |row| {
                Ok(Versioned { version: row.get::<_, i64>(0)? as u64, value: row.get(1)? })
            })
        })?;
        Ok(found.unwrap_or_default())
    }

    async fn write_setting(&self, setting: Setting, was: u64, value: &str) -> Recorded<Option<u64>> {
        let value = value.to_owned();
        self.write(Durability::Disk, move |tx| {
            if version(tx, name(setting))? != was {
                return Ok(None);
            }
            rows::run(tx, "UPDATE shared SET value = ? WHERE name = ?", (value, name(setting)))?;
            Ok(Some(changed(tx, name(setting))?))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hearth_records::testing::what_is_shared_conforms;

    use super::*;

    #[tokio::test]
    async fn what_is_shared_has_versions() {
        what_is_shared_conforms(&Store::temporary().await.unwrap()).await;
    }

    #[tokio::test]
    async fn another_process_sees_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hearth.db");
        let (one, other) = (Store::open(&path).await.unwrap(), Store::open(&path).await.unwrap());
        let (one, other) = (Arc::new(one), Arc::new(other));
        let was = other.setting(Setting::Limits).await.unwrap();
        assert_eq!(one.write_setting(Setting::Limits, was.version, "more").await.unwrap(), Some(1));
        assert_eq!(other.versions().await.unwrap().limits, 1);
        assert_eq!(other.setting(Setting::Limits).await.unwrap().value.as_deref(), Some("more"));
        assert_eq!(other.write_setting(Setting::Limits, was.version, "less").await.unwrap(), None);
    }
}
