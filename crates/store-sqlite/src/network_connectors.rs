//! Rows of network connectors and their versions.
//!
//! States follow from the time: a row says when it becomes ACTIVE and when it is gone, and
//! whoever reads it says what time it is. So nothing has to happen for a state to change, and
//! nothing is lost by a restart.

use async_trait::async_trait;
use hearth_api::{AccountId, NetworkConnectorArn, NetworkConnectorState, NetworkConnectorVersion, Timestamp};
use hearth_egress_policy::RuleText;
use hearth_records::{
    Actor, ClientToken, ConnectorPage, ConnectorUpdate, Connectors, DeletedNetworkConnector, EgressRules,
    InsertedNetworkConnector, NetworkConnectorKey, NetworkConnectorRecord, NetworkConnectorVersionRecord,
    Quotas, Result as Recorded, UpdatedNetworkConnector, Written,
};
use rusqlite::{Row, params};

use crate::events::tell;
use crate::rows::{json, moment, optional_json, optional_moment, parsed, readable};
use crate::writer::Durability;
use crate::{Result, Store, rows};

mod changes;
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
impl EgressRules for Store {
    async fn egress_rules(
        &self,
        arn: &NetworkConnectorArn,
        now: Timestamp,
    ) -> Recorded<Option<Vec<RuleText>>> {
        let query = "SELECT egress_rules FROM network_connectors
             WHERE arn = ? AND (gone_at IS NULL OR gone_at > ?)";
        let key = (arn.unqualified().to_string(), now.as_millis());
        let read = |row: &Row<'_>| optional_json(row, "egress_rules");
        let found = self.read(|connection| rows::one(connection, query, key, read))?;
        Ok(found.flatten())
    }
}

#[async_trait]
impl Connectors for Store {
    async fn insert_network_connector(
        &self,
        connector: &NetworkConnectorRecord,
        actor: Option<&Actor>,
        token: Option<ClientToken>,
        now: Timestamp,
        quotas: &Quotas,
    ) -> Recorded<InsertedNetworkConnector> {
        let (connector, quotas, room) = (connector.clone(), *quotas, self.room());
        let events = connector.appeared(actor, now);
        self.write(Durability::Disk, move |tx| {
            let inserted = changes::insert(tx, &connector, token.as_ref(), now, &quotas, room)?;
            if inserted == InsertedNetworkConnector::Inserted {
                events.iter().try_for_each(|event| tell(tx, event))?;
            }
            Ok(inserted)
        })
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
        was: &NetworkConnectorRecord,
        to: &NetworkConnectorRecord,
        actor: Option<&Actor>,
        token: Option<ClientToken>,
        now: Timestamp,
        quotas: &Quotas,
    ) -> Recorded<UpdatedNetworkConnector> {
        let event = to.updated_from(was, actor, now);
        let (was, to, quotas, room) = (was.clone(), to.clone(), *quotas, self.room());
        let updated = UpdatedNetworkConnector::Written(Written::Yes);
        self.write(Durability::Disk, move |tx| {
            let outcome = changes::update(tx, &was, &to, token.as_ref(), now, &quotas, room)?;
            if outcome == updated {
                tell(tx, &event)?;
            }
            Ok(outcome)
        })
        .await
    }

    async fn delete_network_connector(
        &self,
        was: &NetworkConnectorRecord,
        version: Option<NetworkConnectorVersion>,
        actor: Option<&Actor>,
        now: Timestamp,
        gone_at: Timestamp,
    ) -> Recorded<DeletedNetworkConnector> {
        let (was, actor) = (was.clone(), actor.cloned());
        self.write(Durability::Disk, move |tx| {
            changes::delete(tx, &was, version, actor.as_ref(), now, gone_at)
        })
        .await
    }

    async fn sweep_network_connectors(&self, before: Timestamp) -> Recorded<bool> {
        self.write_bulk(Durability::Disk, move |tx| gone::sweep(tx, before)).await
    }
}

fn connector_record(row: &Row<'_>) -> Result<NetworkConnectorRecord> {
    let arn = parsed(row, "arn", NetworkConnectorArn::parse)?;
    let gone_at = optional_moment(row, "gone_at")?;
    let updated = row.get::<_, Option<String>>("updated")?;
    Ok(NetworkConnectorRecord {
        generation: row.get::<_, i64>("generation")? as u64,
        name: row.get("name")?,
        tags: json(row, "tags")?,
        modified_at: moment(row, "modified_at")?,
        active_at: moment(row, "active_at")?,
        updated: updated.map(|text| readable("updated", &text, ConnectorUpdate::parse)).transpose()?,
        gone_at,
        egress_rules: optional_json(row, "egress_rules")?,
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
