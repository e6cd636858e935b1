//! Changes of network connectors: each looks at the row and writes it in one transaction.

use hearth_api::{NetworkConnectorArn, NetworkConnectorVersion, Timestamp};
use hearth_records::{
    Actor, ClientToken, ConnectorUpdate, DeletedNetworkConnector, InsertedNetworkConnector,
    NetworkConnectorRecord, NetworkConnectorVersionRecord, Quotas, TokenClaim, UpdatedNetworkConnector,
    Written,
};
use rusqlite::{Connection, Transaction, params};

use super::{CONNECTOR, connector_record, gone};
use crate::events::tell;
use crate::quotas::{of_connector_version, of_network_connector};
use crate::rows::to_json;
use crate::{Result, client_tokens, rows};

pub(super) fn insert(
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
        "INSERT INTO network_connectors (arn, generation, account, name, latest_version, tags, modified_at,
             active_at, updated, gone_at, egress_rules)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            arn.to_string(),
            connector.generation as i64,
            account.as_str(),
            connector.name,
            connector.latest.version,
            to_json(&connector.tags),
            connector.modified_at.as_millis(),
            connector.active_at.as_millis(),
            connector.updated.map(ConnectorUpdate::as_str),
            connector.gone_at.map(Timestamp::as_millis),
            connector.egress_rules.as_ref().map(to_json),
        ],
    )?;
    insert_version(tx, &connector.latest)?;
    Ok(InsertedNetworkConnector::Inserted)
}

pub(super) fn update(
    tx: &Transaction<'_>,
    was: &NetworkConnectorRecord,
    to: &NetworkConnectorRecord,
    token: Option<&ClientToken>,
    now: Timestamp,
    quotas: &Quotas,
    room: Result<()>,
) -> Result<UpdatedNetworkConnector> {
    let claim = client_tokens::look_up(tx, token)?;
    if claim != TokenClaim::Fresh {
        return Ok(UpdatedNetworkConnector::Token(claim));
    }
    // A repeat needs none.
    room?;
    if let Some(stale) = changed_since(tx, was, now)? {
        return Ok(UpdatedNetworkConnector::Written(stale));
    }
    let arn = &to.arn;
    let new_version = to.latest.version != was.latest.version;
    if new_version && let Some(quota) = of_connector_version(quotas, tx, arn, now)? {
        return Ok(UpdatedNetworkConnector::QuotaExceeded(quota));
    }
    client_tokens::insert(tx, token)?;
    client_tokens::keep_newest(tx, token)?;
    rows::run(
        tx,
        "UPDATE network_connectors SET generation = generation + 1, latest_version = ?, modified_at = ?,
             updated = ?, egress_rules = ? WHERE arn = ?",
        params![
            to.latest.version,
            to.modified_at.as_millis(),
            to.updated.map(ConnectorUpdate::as_str),
            to.egress_rules.as_ref().map(to_json),
            arn.to_string(),
        ],
    )?;
    if new_version {
        gone::forget_versions(tx, arn, now, quotas.versions_per_network_connector)?;
        insert_version(tx, &to.latest)?;
    }
    Ok(UpdatedNetworkConnector::Written(Written::Yes))
}

/// The answer to a writer whose connector has changed since, if it has.
fn changed_since(
    tx: &Connection,
    was: &NetworkConnectorRecord,
    now: Timestamp,
) -> Result<Option<Written<NetworkConnectorRecord>>> {
    let query = format!("{CONNECTOR} WHERE c.arn = ?2");
    let known = rows::one(tx, &query, params![now.as_millis(), was.arn.to_string()], connector_record)?;
    let is_same = known.as_ref().is_some_and(|known| known.generation == was.generation);
    Ok((!is_same).then(|| Written::Stale(known.map(Box::new))))
}

pub(super) fn delete(
    tx: &Transaction<'_>,
    was: &NetworkConnectorRecord,
    version: Option<NetworkConnectorVersion>,
    actor: Option<&Actor>,
    now: Timestamp,
    gone_at: Timestamp,
) -> Result<DeletedNetworkConnector> {
    if let Some(stale) = changed_since(tx, was, now)? {
        return Ok(DeletedNetworkConnector::Written(stale));
    }
    if is_used(tx, &NetworkConnectorArn { version, ..was.arn.clone() })? {
        return Ok(DeletedNetworkConnector::InUse);
    }
    let arn = was.arn.to_string();
    let deleted = rows::run(
        tx,
        "UPDATE network_connector_versions SET gone_at = ?1
         WHERE arn = ?2 AND (?3 IS NULL OR version = ?3) AND gone_at IS NULL",
        params![gone_at.as_millis(), arn, version],
    )?;
    if deleted > 0 {
        rows::run(
            tx,
            "UPDATE network_connectors SET generation = generation + 1,
                 gone_at = CASE WHEN ?3 IS NULL THEN ?1 ELSE gone_at END WHERE arn = ?2",
            params![gone_at.as_millis(), arn, version],
        )?;
        match version {
            None => was.deleted(actor, now, gone_at).iter().try_for_each(|event| tell(tx, event))?,
            Some(version) => tell(tx, &was.version_deleted(version, actor, gone_at))?,
        }
    }
    Ok(DeletedNetworkConnector::Written(Written::Yes))
}

/// Whether a microVM that has not ended or an image version names exactly this ARN (`?1`) or one
/// between `?2` and `?3`.
pub(super) const IS_USED: &str = "SELECT EXISTS (
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
