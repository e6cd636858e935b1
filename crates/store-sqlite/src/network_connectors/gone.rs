//! What is left of deleted connectors: for a while, so that deleting one again succeeds, and only
//! so many of an account.

use hearth_api::{AccountId, NetworkConnectorArn, Timestamp};
use rusqlite::Connection;

use crate::rows::STEP;
use crate::{Result, rows};

pub(super) const GONE_CONNECTORS: &str = "SELECT arn FROM network_connectors WHERE gone_at < ?1 LIMIT ?2";
pub(super) const GONE_VERSIONS: &str =
    "SELECT rowid FROM network_connector_versions WHERE gone_at < ?1 LIMIT ?2";

pub(super) fn sweep(tx: &Connection, before: Timestamp) -> Result<bool> {
    let mut more = false;
    for statement in [
        format!("DELETE FROM network_connectors WHERE arn IN ({GONE_CONNECTORS})"),
        format!("DELETE FROM network_connector_versions WHERE rowid IN ({GONE_VERSIONS})"),
    ] {
        more |= rows::run(tx, &statement, (before.as_millis(), STEP as i64))? == STEP;
    }
    Ok(more)
}

/// Removes the connectors of an account that have been gone for longest, but for the last `kept`.
pub(super) fn forget_connectors(
    tx: &Connection,
    account: &AccountId,
    now: Timestamp,
    kept: u32,
) -> Result<()> {
    rows::run(
        tx,
        "DELETE FROM network_connectors WHERE arn IN (
             SELECT arn FROM network_connectors WHERE account = ? AND gone_at <= ?
             ORDER BY gone_at DESC LIMIT -1 OFFSET ?)",
        (account.as_str(), now.as_millis(), kept),
    )?;
    Ok(())
}

/// Removes the versions of a connector that have been gone for longest, but for the last `kept`.
pub(super) fn forget_versions(
    tx: &Connection,
    arn: &NetworkConnectorArn,
    now: Timestamp,
    kept: u32,
) -> Result<()> {
    // With the plus SQLite sorts those of the connector, which are few.
    rows::run(
        tx,
        "DELETE FROM network_connector_versions WHERE rowid IN (
             SELECT rowid FROM network_connector_versions WHERE arn = ? AND gone_at <= ?
             ORDER BY +gone_at DESC LIMIT -1 OFFSET ?)",
        (arn.unqualified().to_string(), now.as_millis(), kept),
    )?;
    Ok(())
}
