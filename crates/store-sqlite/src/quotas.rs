//! Quotas: how much an account may have. They are checked in the transaction that
//! would exceed them.

use hearth_api::{AccountId, ImageArn, NetworkConnectorArn, Timestamp};
use hearth_records::{Quota, Quotas};
use sqlx::SqliteConnection;

use crate::Result;

/// What does not allow another image, with its build.
pub(crate) async fn of_image(
    quotas: &Quotas,
    connection: &mut SqliteConnection,
    account: &AccountId,
) -> Result<Option<Quota>> {
    let query = "SELECT count(*) FROM images WHERE account = ?";
    if number(connection, query, account.as_str()).await? >= u64::from(quotas.images) {
        return Ok(Some(Quota::Images));
    }
    of_build(quotas, connection, account).await
}

/// What does not allow another version of an image, with its build.
pub(crate) async fn of_version(
    quotas: &Quotas,
    connection: &mut SqliteConnection,
    arn: &ImageArn,
) -> Result<Option<Quota>> {
    let query = "SELECT count(*) FROM image_versions WHERE arn = ?";
    if number(connection, query, &arn.to_string()).await? >= u64::from(quotas.versions_per_image) {
        return Ok(Some(Quota::VersionsPerImage));
    }
    of_build(quotas, connection, &arn.account).await
}

async fn of_build(
    quotas: &Quotas,
    connection: &mut SqliteConnection,
    account: &AccountId,
) -> Result<Option<Quota>> {
    let query = "SELECT count(*) FROM image_builds JOIN images USING (arn)
         WHERE account = ? AND image_builds.state IN ('PENDING', 'IN_PROGRESS')";
    let builds = number(connection, query, account.as_str()).await?;
    Ok((builds >= u64::from(quotas.concurrent_builds)).then_some(Quota::ConcurrentBuilds))
}

/// What does not allow another microVM with this much baseline memory.
pub(crate) async fn of_microvm(
    quotas: &Quotas,
    connection: &mut SqliteConnection,
    account: &AccountId,
    memory_mib: u32,
) -> Result<Option<Quota>> {
    // The plus keeps SQLite from looking at all records of the account: those that have not ended
    // are few.
    let query = "SELECT coalesce(sum(memory_mib), 0) FROM microvms
         WHERE +account = ? AND state <> 'TERMINATED'";
    let wanted = number(connection, query, account.as_str()).await? + u64::from(memory_mib);
    Ok((wanted > quotas.memory_mib).then_some(Quota::Memory))
}

/// What does not allow another network connector.
pub(crate) async fn of_network_connector(
    quotas: &Quotas,
    connection: &mut SqliteConnection,
    account: &AccountId,
    now: Timestamp,
) -> Result<Option<Quota>> {
    let connectors: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM network_connectors WHERE account = ? AND (gone_at IS NULL OR gone_at > ?)",
    )
    .bind(account.as_str())
    .bind(now.as_millis())
    .fetch_one(connection)
    .await?;
    Ok((connectors >= i64::from(quotas.network_connectors)).then_some(Quota::NetworkConnectors))
}

/// What does not allow another version of a network connector.
pub(crate) async fn of_connector_version(
    quotas: &Quotas,
    connection: &mut SqliteConnection,
    arn: &NetworkConnectorArn,
    now: Timestamp,
) -> Result<Option<Quota>> {
    let versions: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM network_connector_versions WHERE arn = ? AND (gone_at IS NULL OR gone_at > ?)",
    )
    .bind(arn.unqualified().to_string())
    .bind(now.as_millis())
    .fetch_one(connection)
    .await?;
    let most = i64::from(quotas.versions_per_network_connector);
    Ok((versions >= most).then_some(Quota::VersionsPerNetworkConnector))
}

/// What a query with one parameter counts or adds up.
pub(crate) async fn number(
    connection: &mut SqliteConnection,
    query: &'static str,
    parameter: &str,
) -> Result<u64> {
    let found: i64 = sqlx::query_scalar(query).bind(parameter).fetch_one(connection).await?;
    Ok(u64::try_from(found).unwrap_or(0))
}
