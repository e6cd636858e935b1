//! Quotas: how much an account may have. They are checked in the transaction that would exceed
//! them.

use hearth_api::{AccountId, ImageArn, NetworkConnectorArn, Timestamp};
use hearth_records::{Quota, Quotas};
use rusqlite::{Connection, Params, params};

use crate::{Result, rows};

/// What does not allow another image, with its build.
pub(crate) fn of_image(
    quotas: &Quotas,
    connection: &Connection,
    account: &AccountId,
) -> Result<Option<Quota>> {
    let query = "SELECT count(*) FROM images WHERE account = ?";
    if number(connection, query, [account.as_str()])? >= u64::from(quotas.images) {
        return Ok(Some(Quota::Images));
    }
    of_build(quotas, connection, account)
}

/// What does not allow another version of an image, with its build.
pub(crate) fn of_version(quotas: &Quotas, connection: &Connection, arn: &ImageArn) -> Result<Option<Quota>> {
    let query = "SELECT count(*) FROM image_versions WHERE arn = ?";
    if number(connection, query, [arn.to_string()])? >= u64::from(quotas.versions_per_image) {
        return Ok(Some(Quota::VersionsPerImage));
    }
    of_build(quotas, connection, &arn.account)
}

fn of_build(quotas: &Quotas, connection: &Connection, account: &AccountId) -> Result<Option<Quota>> {
    let query = "SELECT count(*) FROM image_builds JOIN images USING (arn)
         WHERE account = ? AND image_builds.state IN ('PENDING', 'IN_PROGRESS')";
    let builds = number(connection, query, [account.as_str()])?;
    Ok((builds >= u64::from(quotas.concurrent_builds)).then_some(Quota::ConcurrentBuilds))
}

/// What does not allow another microVM with this much baseline memory.
pub(crate) fn of_microvm(
    quotas: &Quotas,
    connection: &Connection,
    account: &AccountId,
    memory_mib: u32,
) -> Result<Option<Quota>> {
    // The plus keeps SQLite from looking at all records of the account: those that have not ended
    // are few.
    let query = "SELECT coalesce(sum(memory_mib), 0) FROM microvms
         WHERE +account = ? AND state <> 'TERMINATED'";
    let wanted = number(connection, query, [account.as_str()])? + u64::from(memory_mib);
    Ok((wanted > quotas.memory_mib).then_some(Quota::Memory))
}

/// What does not allow another network connector.
pub(crate) fn of_network_connector(
    quotas: &Quotas,
    connection: &Connection,
    account: &AccountId,
    now: Timestamp,
) -> Result<Option<Quota>> {
    let query =
        "SELECT count(*) FROM network_connectors WHERE account = ? AND (gone_at IS NULL OR gone_at > ?)";
    let connectors = number(connection, query, params![account.as_str(), now.as_millis()])?;
    Ok((connectors >= u64::from(quotas.network_connectors)).then_some(Quota::NetworkConnectors))
}

/// What does not allow another version of a network connector.
pub(crate) fn of_connector_version(
    quotas: &Quotas,
    connection: &Connection,
    arn: &NetworkConnectorArn,
    now: Timestamp,
) -> Result<Option<Quota>> {
    let query =
        "SELECT count(*) FROM network_connector_versions WHERE arn = ? AND (gone_at IS NULL OR gone_at > ?)";
    let versions = number(connection, query, params![arn.unqualified().to_string(), now.as_millis()])?;
    let most = u64::from(quotas.versions_per_network_connector);
    Ok((versions >= most).then_some(Quota::VersionsPerNetworkConnector))
}

/// What a query counts or adds up.
pub(crate) fn number(connection: &Connection, query: &str, parameters: impl Params) -> Result<u64> {
    Ok(u64::try_from(rows::value::<i64>(connection, query, parameters)?).unwrap_or(0))
}
