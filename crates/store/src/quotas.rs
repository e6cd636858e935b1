//! Quotas: how much an account may have. They are checked in the transaction that would exceed them.

use hearth_api::{AccountId, ImageArn, NetworkConnectorArn, Timestamp};
use sqlx::SqliteConnection;

use crate::Result;

/// How much an account may have in a Region; the defaults are the service's in its larger Regions ("Lambda quotas",
/// section MicroVMs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Images.
    pub images: u32,
    /// Versions of an image, the failed ones included.
    pub versions_per_image: u32,
    /// Builds that have not ended.
    pub concurrent_builds: u32,
    /// Baseline memory in MiB of all microVMs that have not ended.
    pub memory_mib: u64,
    /// Network connectors. As many deleted ones are remembered besides.
    pub network_connectors: u32,
    /// Versions of a network connector. As many deleted ones are remembered besides.
    pub versions_per_network_connector: u32,
}

impl Default for Quotas {
    /// The numbers for network connectors are ours: the service's are not published.
    fn default() -> Self {
        Self {
            images: 100,
            versions_per_image: 50,
            concurrent_builds: 10,
            memory_mib: 1024 * 1024,
            network_connectors: 100,
            versions_per_network_connector: 50,
        }
    }
}

/// A quota that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// [`Quotas::images`].
    Images,
    /// [`Quotas::versions_per_image`].
    VersionsPerImage,
    /// [`Quotas::concurrent_builds`].
    ConcurrentBuilds,
    /// [`Quotas::memory_mib`].
    Memory,
    /// [`Quotas::network_connectors`].
    NetworkConnectors,
    /// [`Quotas::versions_per_network_connector`].
    VersionsPerNetworkConnector,
}

impl Quotas {
    /// What does not allow another image, with its build.
    pub(crate) async fn of_image(
        &self,
        connection: &mut SqliteConnection,
        account: &AccountId,
    ) -> Result<Option<Quota>> {
        let images: i64 = sqlx::query_scalar("SELECT count(*) FROM images WHERE account = ?")
            .bind(account.as_str())
            .fetch_one(&mut *connection)
            .await?;
        if images >= i64::from(self.images) {
            return Ok(Some(Quota::Images));
        }
        self.of_build(connection, account).await
    }

    /// What does not allow another version of an image, with its build.
    pub(crate) async fn of_version(
        &self,
        connection: &mut SqliteConnection,
        arn: &ImageArn,
    ) -> Result<Option<Quota>> {
        let versions: i64 = sqlx::query_scalar("SELECT count(*) FROM image_versions WHERE arn = ?")
            .bind(arn.to_string())
            .fetch_one(&mut *connection)
            .await?;
        if versions >= i64::from(self.versions_per_image) {
            return Ok(Some(Quota::VersionsPerImage));
        }
        self.of_build(connection, &arn.account).await
    }

    async fn of_build(
        &self,
        connection: &mut SqliteConnection,
        account: &AccountId,
    ) -> Result<Option<Quota>> {
        let builds: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM image_builds JOIN images USING (arn)
             WHERE account = ? AND image_builds.state IN ('PENDING', 'IN_PROGRESS')",
        )
        .bind(account.as_str())
        .fetch_one(connection)
        .await?;
        Ok((builds >= i64::from(self.concurrent_builds)).then_some(Quota::ConcurrentBuilds))
    }

    /// What does not allow another microVM with this much baseline memory.
    pub(crate) async fn of_microvm(
        &self,
        connection: &mut SqliteConnection,
        account: &AccountId,
        memory_mib: u32,
    ) -> Result<Option<Quota>> {
        // The plus keeps SQLite from looking at all records of the account: those that have not ended are few.
        let used: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(memory_mib), 0) FROM microvms WHERE +account = ? AND state <> 'TERMINATED'",
        )
        .bind(account.as_str())
        .fetch_one(connection)
        .await?;
        let wanted = used as u64 + u64::from(memory_mib);
        Ok((wanted > self.memory_mib).then_some(Quota::Memory))
    }

    /// What does not allow another network connector.
    pub(crate) async fn of_network_connector(
        &self,
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
        Ok((connectors >= i64::from(self.network_connectors)).then_some(Quota::NetworkConnectors))
    }

    /// What does not allow another version of a network connector.
    pub(crate) async fn of_connector_version(
        &self,
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
        let most = i64::from(self.versions_per_network_connector);
        Ok((versions >= most).then_some(Quota::VersionsPerNetworkConnector))
    }
}
