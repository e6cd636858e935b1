//! Rows of network connectors and their versions.
//!
//! States follow from the time: a row says when it becomes ACTIVE and when it is gone, and
//! whoever reads it says what time it is. So nothing has to happen for a state to change, and
//! nothing is lost by a restart.

use hearth_api::{AccountId, NetworkConnectorArn, NetworkConnectorState, NetworkConnectorVersion, Timestamp};
use hearth_records::{
    ClientToken, ConnectorPage, ConnectorUpdate, DeletedNetworkConnector, InsertedNetworkConnector,
    NetworkConnectorKey, NetworkConnectorRecord, NetworkConnectorVersionRecord, Quotas, TokenClaim,
    UpdatedNetworkConnector,
};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::client_tokens;
use crate::quotas::{of_connector_version, of_network_connector};
use crate::{Result, Store, from_json, readable, to_json};

mod gone;
#[cfg(test)]
mod tests;

/// A connector `c` with its latest version `v`; `?1` is the time. `latest_active` is what an
/// unqualified reference means.
const CONNECTOR: &str = "SELECT c.*, v.configuration, v.operator_role, v.created_at AS version_created_at,
        v.active_at AS version_active_at,
        (SELECT max(version) FROM network_connector_versions AS o
         WHERE o.arn = c.arn AND o.active_at <= ?1 AND (o.gone_at IS NULL OR o.gone_at > ?1)) AS latest_active
    FROM network_connectors AS c
    JOIN network_connector_versions AS v ON v.arn = c.arn AND v.version = c.latest_version";

/// Keeps the rows that are not gone at the time `?1` and, unless `?2` is null, are in that state;
/// the records' `state` says the same.
fn in_state(table: &str) -> String {
    format!(
        "({table}.gone_at IS NULL OR {table}.gone_at > ?1)
         AND (?2 IS NULL OR ?2 = CASE WHEN {table}.gone_at IS NOT NULL THEN 'DELETING'
                                      WHEN {table}.active_at > ?1 THEN 'PENDING' ELSE 'ACTIVE' END)"
    )
}

impl Store {
    /// Records a new connector with its first version, together with its client token.
    pub async fn insert_network_connector(
        &self,
        connector: &NetworkConnectorRecord,
        token: Option<ClientToken>,
        now: Timestamp,
        quotas: &Quotas,
    ) -> Result<InsertedNetworkConnector> {
        // A repeat needs none.
        let room = self.check_room();
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let claim = client_tokens::claim(&mut transaction, token.as_ref()).await?;
        if claim != TokenClaim::Fresh {
            return Ok(InsertedNetworkConnector::Token(claim));
        }
        room?;
        let name_exists: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM network_connectors
             WHERE account = ? AND name = ? AND (gone_at IS NULL OR gone_at > ?))",
        )
        .bind(connector.arn.account.as_str())
        .bind(&connector.name)
        .bind(now.as_millis())
        .fetch_one(&mut *transaction)
        .await?;
        if name_exists {
            return Ok(InsertedNetworkConnector::NameTaken);
        }
        let account = &connector.arn.account;
        if let Some(quota) = of_network_connector(quotas, &mut transaction, account, now).await? {
            return Ok(InsertedNetworkConnector::QuotaExceeded(quota));
        }
        client_tokens::keep_newest(&mut transaction, token.as_ref()).await?;
        gone::forget_connectors(&mut transaction, account, now, quotas.network_connectors).await?;
        sqlx::query(
            "INSERT INTO network_connectors (arn, account, name, latest_version, tags, modified_at, active_at,
                 updated, gone_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(connector.arn.to_string())
        .bind(connector.arn.account.as_str())
        .bind(&connector.name)
        .bind(connector.latest.version)
        .bind(to_json(&connector.tags))
        .bind(connector.modified_at.as_millis())
        .bind(connector.active_at.as_millis())
        .bind(connector.updated.map(ConnectorUpdate::as_str))
        .bind(connector.gone_at.map(Timestamp::as_millis))
        .execute(&mut *transaction)
        .await?;
        insert_version(&mut transaction, &connector.latest).await?;
        transaction.commit().await?;
        Ok(InsertedNetworkConnector::Inserted)
    }

    /// One connector.
    pub async fn network_connector(
        &self,
        key: &NetworkConnectorKey<'_>,
        now: Timestamp,
    ) -> Result<Option<NetworkConnectorRecord>> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "{CONNECTOR} WHERE c.arn = ?2 OR (c.account = ?3 AND c.name = ?4 AND (c.gone_at IS NULL OR c.gone_at > ?1))
             ORDER BY c.arn = ?2 DESC LIMIT 1"
        )))
        .bind(now.as_millis())
        .bind(key.arn.unqualified().to_string())
        .bind(key.arn.account.as_str())
        .bind(key.name)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(connector_record).transpose()
    }

    /// Connectors of an account that are not gone, by name.
    pub async fn network_connectors(
        &self,
        account: &AccountId,
        page: &ConnectorPage<&str>,
    ) -> Result<Vec<NetworkConnectorRecord>> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "{CONNECTOR} WHERE {} AND c.account = ?3 AND c.name > ?4 ORDER BY c.name LIMIT ?5",
            in_state("c")
        )))
        .bind(page.now.as_millis())
        .bind(page.state.map(NetworkConnectorState::as_str))
        .bind(account.as_str())
        .bind(page.after.unwrap_or(""))
        .bind(page.limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(connector_record).collect()
    }

    /// One version of a connector, even if it is gone.
    pub async fn network_connector_version(
        &self,
        arn: &NetworkConnectorArn,
        version: NetworkConnectorVersion,
    ) -> Result<Option<NetworkConnectorVersionRecord>> {
        let row = sqlx::query("SELECT * FROM network_connector_versions WHERE arn = ? AND version = ?")
            .bind(arn.unqualified().to_string())
            .bind(version)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(version_record).transpose()
    }

    /// Versions of a connector that are not gone, newest first.
    pub async fn network_connector_versions(
        &self,
        arn: &NetworkConnectorArn,
        page: &ConnectorPage<NetworkConnectorVersion>,
    ) -> Result<Vec<NetworkConnectorVersionRecord>> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT * FROM network_connector_versions AS v
             WHERE {} AND arn = ?3 AND (?4 IS NULL OR version < ?4) ORDER BY version DESC LIMIT ?5",
            in_state("v")
        )))
        .bind(page.now.as_millis())
        .bind(page.state.map(NetworkConnectorState::as_str))
        .bind(arn.unqualified().to_string())
        .bind(page.after)
        .bind(page.limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(version_record).collect()
    }

    /// Writes the members of a connector that an update changes, and its latest version if that is
    /// a new one. Nothing is written unless `former` is still the latest version.
    pub async fn update_network_connector(
        &self,
        connector: &NetworkConnectorRecord,
        former: NetworkConnectorVersion,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<UpdatedNetworkConnector> {
        // A repeat needs none.
        let room = self.check_room();
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let claim = client_tokens::claim(&mut transaction, token.as_ref()).await?;
        if claim != TokenClaim::Fresh {
            return Ok(UpdatedNetworkConnector::Token(claim));
        }
        room?;
        let written = sqlx::query(
            "UPDATE network_connectors SET latest_version = ?, modified_at = ?, updated = ?
             WHERE arn = ? AND latest_version = ? AND gone_at IS NULL",
        )
        .bind(connector.latest.version)
        .bind(connector.modified_at.as_millis())
        .bind(connector.updated.map(ConnectorUpdate::as_str))
        .bind(connector.arn.to_string())
        .bind(former)
        .execute(&mut *transaction)
        .await?;
        if written.rows_affected() == 0 {
            return Ok(UpdatedNetworkConnector::Changed);
        }
        client_tokens::keep_newest(&mut transaction, token.as_ref()).await?;
        if connector.latest.version != former {
            let (arn, now) = (&connector.arn, connector.modified_at);
            if let Some(quota) = of_connector_version(quotas, &mut transaction, arn, now).await? {
                return Ok(UpdatedNetworkConnector::QuotaExceeded(quota));
            }
            let kept = quotas.versions_per_network_connector;
            gone::forget_versions(&mut transaction, arn, now, kept).await?;
            insert_version(&mut transaction, &connector.latest).await?;
        }
        transaction.commit().await?;
        Ok(UpdatedNetworkConnector::Updated)
    }

    /// Lets a connector and its versions, or with a qualified ARN that version alone, be gone at
    /// `gone_at`, unless somebody refers to it. One that is to be gone already stays as it is.
    pub async fn delete_network_connector(
        &self,
        arn: &NetworkConnectorArn,
        gone_at: Timestamp,
    ) -> Result<DeletedNetworkConnector> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if is_used(&mut transaction, arn).await? {
            return Ok(DeletedNetworkConnector::InUse);
        }
        let (connector, version) = (arn.unqualified().to_string(), arn.version);
        if version.is_none() {
            sqlx::query("UPDATE network_connectors SET gone_at = ? WHERE arn = ? AND gone_at IS NULL")
                .bind(gone_at.as_millis())
                .bind(&connector)
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query(
            "UPDATE network_connector_versions SET gone_at = ?1
             WHERE arn = ?2 AND (?3 IS NULL OR version = ?3) AND gone_at IS NULL",
        )
        .bind(gone_at.as_millis())
        .bind(&connector)
        .bind(version)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(DeletedNetworkConnector::Deleted)
    }
}

/// Whether a microVM that has not ended or an image version names exactly this ARN (`?1`) or one
/// between `?2` and `?3`.
const IS_USED: &str = "SELECT EXISTS (
        SELECT 1 FROM microvms
        WHERE state <> 'TERMINATED' AND json_extract(settings, '$.egressNetworkConnectors[0]') = ?1)
    OR EXISTS (
        SELECT 1 FROM microvms
        WHERE state <> 'TERMINATED' AND json_extract(settings, '$.egressNetworkConnectors[0]') > ?2
          AND json_extract(settings, '$.egressNetworkConnectors[0]') < ?3)
    OR EXISTS (
        SELECT 1 FROM image_versions
        WHERE json_extract(configuration, '$.egressNetworkConnectors[0]') = ?1)
    OR EXISTS (
        SELECT 1 FROM image_versions
        WHERE json_extract(configuration, '$.egressNetworkConnectors[0]') > ?2
          AND json_extract(configuration, '$.egressNetworkConnectors[0]') < ?3)";

/// Whether somebody refers to a connector: to any version of it when the ARN is unqualified.
/// Neither image versions nor microVMs have more than one egress connector.
async fn is_used(connection: &mut sqlx::SqliteConnection, arn: &NetworkConnectorArn) -> Result<bool> {
    // Qualified ARNs lie between the unqualified one with a colon and with the
    // character that follows it.
    let versions = |end: char| arn.version.is_none().then(|| format!("{arn}{end}"));
    Ok(sqlx::query_scalar(IS_USED)
        .bind(arn.to_string())
        .bind(versions(':'))
        .bind(versions(';'))
        .fetch_one(connection)
        .await?)
}

async fn insert_version(
    connection: &mut sqlx::SqliteConnection,
    version: &NetworkConnectorVersionRecord,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO network_connector_versions (arn, version, configuration, operator_role, created_at, active_at,
             gone_at)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(version.arn.to_string())
    .bind(version.version)
    .bind(to_json(&version.configuration))
    .bind(&version.operator_role)
    .bind(version.created_at.as_millis())
    .bind(version.active_at.as_millis())
    .bind(version.gone_at.map(Timestamp::as_millis))
    .execute(connection)
    .await?;
    Ok(())
}

fn moment(row: &SqliteRow, column: &str) -> Result<Timestamp> {
    Ok(Timestamp::from_millis(row.try_get(column)?))
}

fn connector_record(row: &SqliteRow) -> Result<NetworkConnectorRecord> {
    let arn = readable("arn", row.try_get("arn")?, NetworkConnectorArn::parse)?;
    let gone_at = row.try_get::<Option<i64>, _>("gone_at")?.map(Timestamp::from_millis);
    let updated = row.try_get::<Option<String>, _>("updated")?;
    Ok(NetworkConnectorRecord {
        name: row.try_get("name")?,
        tags: from_json("tags", row.try_get("tags")?)?,
        modified_at: moment(row, "modified_at")?,
        active_at: moment(row, "active_at")?,
        updated: updated.map(|text| readable("updated", &text, ConnectorUpdate::parse)).transpose()?,
        gone_at,
        latest_active: row.try_get("latest_active")?,
        latest: NetworkConnectorVersionRecord {
            arn: arn.clone(),
            version: row.try_get("latest_version")?,
            configuration: from_json("configuration", row.try_get("configuration")?)?,
            operator_role: row.try_get("operator_role")?,
            created_at: moment(row, "version_created_at")?,
            active_at: moment(row, "version_active_at")?,
            gone_at,
        },
        arn,
    })
}

fn version_record(row: &SqliteRow) -> Result<NetworkConnectorVersionRecord> {
    Ok(NetworkConnectorVersionRecord {
        arn: readable("arn", row.try_get("arn")?, NetworkConnectorArn::parse)?,
        version: row.try_get("version")?,
        configuration: from_json("configuration", row.try_get("configuration")?)?,
        operator_role: row.try_get("operator_role")?,
        created_at: moment(row, "created_at")?,
        active_at: moment(row, "active_at")?,
        gone_at: row.try_get::<Option<i64>, _>("gone_at")?.map(Timestamp::from_millis),
    })
}
