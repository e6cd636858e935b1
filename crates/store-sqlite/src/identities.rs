//! Users, roles, policies and sessions. What is in the values is the crate `identity`'s business.

use hearth_api::AccountId;
use hearth_records::{IdentityKind, IdentityRow, IdentityWrite};
use sqlx::{Row as _, Sqlite, Transaction};

use crate::{Error, Result, Store, readable};

/// Bytes by which a row may become longer on a disk that is nearly full.
const SMALL_GROWTH: usize = 4096;

impl Store {
    /// All rows.
    pub async fn identities(&self) -> Result<Vec<IdentityRow>> {
        let rows = sqlx::query("SELECT * FROM identities").fetch_all(&self.pool).await?;
        let row = |row: &sqlx::sqlite::SqliteRow| {
            let kind: String = row.try_get("kind")?;
            Ok(IdentityRow {
                account: AccountId::from_stored(row.try_get::<String, _>("account")?),
                kind: readable("kind", &kind, |text| {
                    IdentityKind::ALL.into_iter().find(|kind| kind.as_str() == text)
                })?,
                name: row.try_get("name")?,
                value: row.try_get("value")?,
            })
        };
        rows.iter().map(row).collect()
    }

    /// Makes changes, all or none.
    pub async fn write_identities(&self, writes: &[IdentityWrite]) -> Result<()> {
        let full = self.check_room().is_err();
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for write in writes {
            match write {
                IdentityWrite::Put(row) => {
                    if full && grows(&mut transaction, row).await? {
                        return Err(Error::NoRoom);
                    }
                    sqlx::query(
                        "INSERT OR REPLACE INTO identities (account, kind, name, value) VALUES (?, ?, ?, ?)",
                    )
                    .bind(row.account.as_str())
                    .bind(row.kind.as_str())
                    .bind(&row.name)
                    .bind(&row.value)
                    .execute(&mut *transaction)
                    .await?;
                }
                IdentityWrite::Delete { account, kind, name } => {
                    sqlx::query("DELETE FROM identities WHERE account = ? AND kind = ? AND name = ?")
                        .bind(account.as_str())
                        .bind(kind.as_str())
                        .bind(name)
                        .execute(&mut *transaction)
                        .await?;
                }
            }
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Whether a row takes more room than before. What takes rights away (a key made inactive, a Deny,
/// a role that is gone) must go on working when there is hardly any.
async fn grows(transaction: &mut Transaction<'_, Sqlite>, row: &IdentityRow) -> Result<bool> {
    if row.kind == IdentityKind::GoneRole {
        return Ok(false);
    }
    let query =
        "SELECT length(CAST(value AS BLOB)) FROM identities WHERE account = ? AND kind = ? AND name = ?";
    let before: Option<i64> = sqlx::query_scalar(query)
        .bind(row.account.as_str())
        .bind(row.kind.as_str())
        .bind(&row.name)
        .fetch_optional(&mut **transaction)
        .await?;
    let before = before.and_then(|bytes| usize::try_from(bytes).ok());
    Ok(before.is_none_or(|before| row.value.len() > before + SMALL_GROWTH))
}
