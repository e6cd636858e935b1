//! Rows of network connectors and their versions.
//!
//! States follow from the time: a row says when it becomes ACTIVE and when it is gone, and
//! whoever reads it says what time it is. So nothing has to happen for a state to change, and
//! nothing is lost by a restart.

use async_trait::async_trait;
use hearth_api::{AccountId, NetworkConnectorArn, NetworkConnectorState, NetworkConnectorVersion, Timestamp};
use hearth_records::{
    ClientToken, ConnectorPage, ConnectorUpdate, Connectors, DeletedNetworkConnector,
    InsertedNetworkConnector, NetworkConnectorKey, NetworkConnectorRecord, NetworkConnectorVersionRecord,
    Quotas, Result as Recorded, TokenClaim, UpdatedNetworkConnector,
};
use rusqlite::{Connection, Row, Transaction, params};

use crate::quotas::{of_connector_version, of_network_connector};
use crate::rows::{json, moment, optional_moment, parsed, readable, to_json};
use crate::writer::Durability;
use crate::{Result, Store, client_tokens, rows};

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

#[async_trait]
impl Connectors for Store {
    async fn insert_network_connector(
        &self,
        connector: &NetworkConnectorRecord,
        token: Option<ClientToken>,
        now: Timestamp,
        quotas: &Quotas,
    ) -> Recorded<InsertedNetworkConnector> {
        let (connector, quotas, room) = (connector.clone(), *quotas, self.room());
        self.write(Durability::Disk, move |tx| insert(tx, &connector, token.as_ref(), now, &quotas, room))
            .await
    }

    async fn network_connector(
        &self,
        key: &NetworkConnectorKey<'_>,
        now: Timestamp,
    ) -> Recorded<Option<NetworkConnectorRecord>> {
        let query = format!(
            "{CONNECTOR} WHERE c.arn = ?2 OR (c.account = ?3 AND c.name = ?4 AND (c.gone_at IS NULL OR c.gone_at > ?1))
             ORDER BY c.arn = ?2 DESC LIMIT 1"
        );
        let arn = key.arn.unqualified().to_string();
        let parameters = params![now.as_millis(), arn, key.arn.account.as_str(), key.name];
        self.read(|connection| rows::one(connection, &query, parameters, connector_record))
    }

    async fn network_connectors(
        &self,
        account: &AccountId,
        page: &ConnectorPage<&str>,
    ) -> Recorded<Vec<NetworkConnectorRecord>> {
        let query = format!(
            "{CONNECTOR} WHERE {} AND c.account = ?3 AND c.name > ?4 ORDER BY c.name LIMIT ?5",
            in_state("c")
        );
        let parameters = params![
            page.now.as_millis(),
            page.state.map(NetworkConnectorState::as_str),
            account.as_str(),
            page.after.unwrap_or(""),
            page.limit,
        ];
        self.read(|connection| rows::all(connection, &query, parameters, connector_record))
    }

    async fn network_connector_version(
        &self,
        arn: &NetworkConnectorArn,
        version: NetworkConnectorVersion,
    ) -> Recorded<Option<NetworkConnectorVersionRecord>> {
        let query = "SELECT * FROM network_connector_versions WHERE arn = ? AND version = ?";
        let key = (arn.unqualified().to_string(), version);
        self.read(|connection| rows::one(connection, query, key, version_record))
    }

    async fn network_connector_versions(
        &self,
        arn: &NetworkConnectorArn,
        page: &ConnectorPage<NetworkConnectorVersion>,
    ) -> Recorded<Vec<NetworkConnectorVersionRecord>> {
        let query = format!(
            "SELECT * FROM network_connector_versions AS v
             WHERE {} AND arn = ?3 AND (?4 IS NULL OR version < ?4) ORDER BY version DESC LIMIT ?5",
            in_state("v")
        );
        let parameters = params![
            page.now.as_millis(),
            page.state.map(NetworkConnectorState::as_str),
            arn.unqualified().to_string(),
            page.after,
            page.limit,
        ];
        self.read(|connection| rows::all(connection, &query, parameters, version_record))
    }

    async fn update_network_connector(
        &self,
        connector: &NetworkConnectorRecord,
        former: NetworkConnectorVersion,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Recorded<UpdatedNetworkConnector> {
        let (connector, quotas, room) = (connector.clone(), *quotas, self.room());
        self.write(Durability::Disk, move |tx| update(tx, &connector, former, token.as_ref(), &quotas, room))
            .await
    }

    async fn delete_network_connector(
        &self,
        arn: &NetworkConnectorArn,
        gone_at: Timestamp,
    ) -> Recorded<DeletedNetworkConnector> {
        let arn = arn.clone();
        self.write(Durability::Disk, move |tx| delete(tx, &arn, gone_at)).await
    }

    async fn sweep_network_connectors(&self, before: Timestamp) -> Recorded<bool> {
        self.write_bulk(Durability::Disk, move |tx| gone::sweep(tx, before)).await
    }
}

fn insert(
    tx: &Transaction<'_>,
    connector: &NetworkConnectorRecord,
    token: Option<&ClientToken>,
    now: Timestamp,
    quotas: &Quotas,
    room: Result<()>,
) -> Result<InsertedNetworkConnector> {
    let claim = client_tokens::look_up(tx, token)?;
    if claim != TokenClaim::Fresh {
        return Ok(InsertedNetworkConnector::Token(claim));
    }
    // A repeat needs none.
    room?;
    let (arn, account) = (&connector.arn, &connector.arn.account);
    let name_exists: bool = rows::value(
        tx,
        "SELECT EXISTS (SELECT 1 FROM network_connectors
         WHERE account = ? AND name = ? AND (gone_at IS NULL OR gone_at > ?))",
        params![account.as_str(), connector.name, now.as_millis()],
    )?;
    if name_exists {
        return Ok(InsertedNetworkConnector::NameTaken);
    }
    if let Some(quota) = of_network_connector(quotas, tx, account, now)? {
        return Ok(InsertedNetworkConnector::QuotaExceeded(quota));
    }
    client_tokens::insert(tx, token)?;
    client_tokens::keep_newest(tx, token)?;
    gone::forget_connectors(tx, account, now, quotas.network_connectors)?;
    rows::run(
        tx,
        "INSERT INTO network_connectors (arn, account, name, latest_version, tags, modified_at, active_at,
             updated, gone_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            arn.to_string(),
            account.as_str(),
            connector.name,
            connector.latest.version,
            to_json(&connector.tags),
            connector.modified_at.as_millis(),
            connector.active_at.as_millis(),
            connector.updated.map(ConnectorUpdate::as_str),
            connector.gone_at.map(Timestamp::as_millis),
        ],
    )?;
    insert_version(tx, &connector.latest)?;
    Ok(InsertedNetworkConnector::Inserted)
}

fn update(
    tx: &Transaction<'_>,
    connector: &NetworkConnectorRecord,
    former: NetworkConnectorVersion,
    token: Option<&ClientToken>,
    quotas: &Quotas,
    room: Result<()>,
) -> Result<UpdatedNetworkConnector> {
    let claim = client_tokens::look_up(tx, token)?;
    if claim != TokenClaim::Fresh {
        return Ok(UpdatedNetworkConnector::Token(claim));
    }
    // A repeat needs none.
    room?;
    let (arn, now) = (&connector.arn, connector.modified_at);
    let unchanged: bool = rows::value(
        tx,
        "SELECT EXISTS (SELECT 1 FROM network_connectors
         WHERE arn = ? AND latest_version = ? AND gone_at IS NULL)",
        params![arn.to_string(), former],
    )?;
    if !unchanged {
        return Ok(UpdatedNetworkConnector::Changed);
    }
    let new_version = connector.latest.version != former;
    if new_version && let Some(quota) = of_connector_version(quotas, tx, arn, now)? {
        return Ok(UpdatedNetworkConnector::QuotaExceeded(quota));
    }
    client_tokens::insert(tx, token)?;
    client_tokens::keep_newest(tx, token)?;
    rows::run(
        tx,
        "UPDATE network_connectors SET latest_version = ?, modified_at = ?, updated = ? WHERE arn = ?",
        params![
            connector.latest.version,
            connector.modified_at.as_millis(),
            connector.updated.map(ConnectorUpdate::as_str),
            arn.to_string(),
        ],
    )?;
    if new_version {
        gone::forget_versions(tx, arn, now, quotas.versions_per_network_connector)?;
        insert_version(tx, &connector.latest)?;
    }
    Ok(UpdatedNetworkConnector::Updated)
}

fn delete(
    tx: &Transaction<'_>,
    arn: &NetworkConnectorArn,
    gone_at: Timestamp,
) -> Result<DeletedNetworkConnector> {
    if is_used(tx, arn)? {
        return Ok(DeletedNetworkConnector::InUse);
    }
    let (connector, version) = (arn.unqualified().to_string(), arn.version);
    if version.is_none() {
        rows::run(
            tx,
            "UPDATE network_connectors SET gone_at = ? WHERE arn = ? AND gone_at IS NULL",
            params![gone_at.as_millis(), connector],
        )?;
    }
    rows::run(
        tx,
        "UPDATE network_connector_versions SET gone_at = ?1
         WHERE arn = ?2 AND (?3 IS NULL OR version = ?3) AND gone_at IS NULL",
        params![gone_at.as_millis(), connector, version],
    )?;
    Ok(DeletedNetworkConnector::Deleted)
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
fn is_used(tx: &Connection, arn: &NetworkConnectorArn) -> Result<bool> {
    // Qualified ARNs lie between the unqualified one with a colon and with the
    // character that follows it.
    let versions = |end: char| arn.version.is_none().then(|| format!("{arn}{end}"));
    rows::value(tx, IS_USED, (arn.to_string(), versions(':'), versions(';')))
}

fn insert_version(tx: &Connection, version: &NetworkConnectorVersionRecord) -> Result<()> {
    rows::run(
        tx,
        "INSERT INTO network_connector_versions (arn, version, configuration, operator_role, created_at, active_at,
             gone_at)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![
            version.arn.to_string(),
            version.version,
            to_json(&version.configuration),
            version.operator_role,
            version.created_at.as_millis(),
            version.active_at.as_millis(),
            version.gone_at.map(Timestamp::as_millis),
        ],
    )?;
    Ok(())
}

fn connector_record(row: &Row<'_>) -> Result<NetworkConnectorRecord> {
    let arn = parsed(row, "arn", NetworkConnectorArn::parse)?;
    let gone_at = optional_moment(row, "gone_at")?;
    let updated = row.get::<_, Option<String>>("updated")?;
    Ok(NetworkConnectorRecord {
        name: row.get("name")?,
        tags: json(row, "tags")?,
        modified_at: moment(row, "modified_at")?,
        active_at: moment(row, "active_at")?,
        updated: updated.map(|text| readable("updated", &text, ConnectorUpdate::parse)).transpose()?,
        gone_at,
        latest_active: row.get("latest_active")?,
        latest: NetworkConnectorVersionRecord {
            arn: arn.clone(),
            version: row.get("latest_version")?,
            configuration: json(row, "configuration")?,
            operator_role: row.get("operator_role")?,
            created_at: moment(row, "version_created_at")?,
            active_at: moment(row, "version_active_at")?,
            gone_at,
        },
        arn,
    })
}

fn version_record(row: &Row<'_>) -> Result<NetworkConnectorVersionRecord> {
    Ok(NetworkConnectorVersionRecord {
        arn: parsed(row, "arn", NetworkConnectorArn::parse)?,
        version: row.get("version")?,
        configuration: json(row, "configuration")?,
        operator_role: row.get("operator_role")?,
        created_at: moment(row, "created_at")?,
        active_at: moment(row, "active_at")?,
        gone_at: optional_moment(row, "gone_at")?,
    })
}
