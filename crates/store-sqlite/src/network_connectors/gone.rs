//! What is left of deleted connectors: for a while, so that deleting one again succeeds, and only
//! so many of an account.

use hearth_api::{AccountId, NetworkConnectorArn, Timestamp};
use sqlx::SqliteConnection;

use crate::{Result, Store};

/// Rows that one step removes at most.
const STEP: i64 = 1000;

pub(super) const GONE_CONNECTORS: &str = "SELECT arn FROM network_connectors WHERE gone_at < ?1 LIMIT ?2";
pub(super) const GONE_VERSIONS: &str =
    "SELECT rowid FROM network_connector_versions WHERE gone_at < ?1 LIMIT ?2";

impl Store {
    /// Removes up to a thousand connectors, and as many versions, that were gone before a moment.
    /// True when there may be more.
    pub async fn sweep_network_connectors(&self, before: Timestamp) -> Result<bool> {
        let mut more = false;
        for statement in [
            format!("DELETE FROM network_connectors WHERE arn IN ({GONE_CONNECTORS})"),
            format!("DELETE FROM network_connector_versions WHERE rowid IN ({GONE_VERSIONS})"),
        ] {
            let removed = sqlx::query(sqlx::AssertSqlSafe(statement))
                .bind(before.as_millis())
                .bind(STEP)
                .execute(&self.pool)
                .await?;
            more |= removed.rows_affected() as i64 == STEP;
        }
        Ok(more)
    }
}

/// Removes the connectors of an account that have been gone for longest, but for the last `kept`.
pub(super) async fn forget_connectors(
    connection: &mut SqliteConnection,
    account: &AccountId,
    now: Timestamp,
    kept: u32,
) -> Result<()> {
    sqlx::query(
        "DELETE FROM network_connectors WHERE arn IN (
             SELECT arn FROM network_connectors WHERE account = ? AND gone_at <= ?
             ORDER BY gone_at DESC LIMIT -1 OFFSET ?)",
    )
    .bind(account.as_str())
    .bind(now.as_millis())
    .bind(kept)
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes the versions of a connector that have been gone for longest, but for the last `kept`.
pub(super) async fn forget_versions(
    connection: &mut SqliteConnection,
    arn: &NetworkConnectorArn,
    now: Timestamp,
    kept: u32,
) -> Result<()> {
    // With the plus SQLite sorts those of the connector, which are few.
    sqlx::query(
        "DELETE FROM network_connector_versions WHERE rowid IN (
             SELECT rowid FROM network_connector_versions WHERE arn = ? AND gone_at <= ?
             ORDER BY +gone_at DESC LIMIT -1 OFFSET ?)",
    )
    .bind(arn.unqualified().to_string())
    .bind(now.as_millis())
    .bind(kept)
    .execute(connection)
    .await?;
    Ok(())
}
