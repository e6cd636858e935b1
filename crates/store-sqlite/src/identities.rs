//! Users, roles, policies and sessions. What is in the values is the crate `identity`'s business.

use async_trait::async_trait;
use hearth_api::AccountId;
use hearth_records::{Identities, IdentityKind, IdentityRow, IdentityWrite, Result as Recorded, Versioned};
use rusqlite::{Connection, Row, Transaction};

use crate::shared::{IDENTITIES, changed, version};
use crate::writer::Durability;
use crate::{Error, Result, Store, rows};

/// Bytes by which a row may become longer on a disk that is nearly full.
const SMALL_GROWTH: usize = 4096;

#[async_trait]
impl Identities for Store {
    async fn identities_version(&self) -> Recorded<u64> {
        self.read(|connection| version(connection, IDENTITIES))
    }

    async fn identities(&self) -> Recorded<Versioned<Vec<IdentityRow>>> {
        let kind = |text: &str| IdentityKind::ALL.into_iter().find(|kind| kind.as_str() == text);
        let read = |row: &Row<'_>| {
            Ok(IdentityRow {
                account: AccountId::from_stored(row.get::<_, String>("account")?),
                kind: rows::parsed(row, "kind", kind)?,
                name: row.get("name")?,
                value: row.get("value")?,
            })
        };
        self.read(|connection| {
            // Rows and version are of one moment.
            let transaction = connection.unchecked_transaction()?;
            let version = version(&transaction, IDENTITIES)?;
            let value = rows::all(&transaction, "SELECT * FROM identities", [], read)?;
            Ok(Versioned { version, value })
        })
    }

    async fn write_identities(&self, was: u64, writes: &[IdentityWrite]) -> Recorded<Option<u64>> {
        let (writes, full) = (writes.to_vec(), self.room().is_err());
        self.write(Durability::Disk, move |tx| {
            if version(tx, IDENTITIES)? != was {
                return Ok(None);
            }
            writes.iter().try_for_each(|one| write(tx, one, full))?;
            Ok(Some(changed(tx, IDENTITIES)?))
        })
        .await
    }
}

fn write(tx: &Transaction<'_>, write: &IdentityWrite, full: bool) -> Result<()> {
    match write {
        IdentityWrite::Put(row) => {
            if full && grows(tx, row)? {
                return Err(Error::NoRoom);
            }
            let put = "INSERT OR REPLACE INTO identities (account, kind, name, value) VALUES (?, ?, ?, ?)";
            rows::run(tx, put, (row.account.as_str(), row.kind.as_str(), &row.name, &row.value))?;
        }
        IdentityWrite::Delete { account, kind, name } => {
            let delete = "DELETE FROM identities WHERE account = ? AND kind = ? AND name = ?";
            rows::run(tx, delete, (account.as_str(), kind.as_str(), name))?;
        }
    }
    Ok(())
}

/// Whether a row takes more room than before. What takes rights away (a key made inactive, a Deny,
/// a role that is gone) must go on working when there is hardly any.
fn grows(tx: &Connection, row: &IdentityRow) -> Result<bool> {
    if row.kind == IdentityKind::GoneRole {
        return Ok(false);
    }
    let query =
        "SELECT length(CAST(value AS BLOB)) FROM identities WHERE account = ? AND kind = ? AND name = ?";
    let key = (row.account.as_str(), row.kind.as_str(), &row.name);
    let before = rows::one(tx, query, key, |row| Ok(row.get::<_, i64>(0)?))?;
    let before = before.and_then(|bytes| usize::try_from(bytes).ok());
    Ok(before.is_none_or(|before| row.value.len() > before + SMALL_GROWTH))
}
