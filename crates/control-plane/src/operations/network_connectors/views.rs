//! Records as answers show them.

use hearth_api::{
    IsoTimestamp, NetworkConnectorDescription, NetworkConnectorState, NetworkConnectorSummary,
    NetworkConnectorVersion, NetworkConnectorVersionSummary, Timestamp,
};
use hearth_records::{ConnectorUpdate, NetworkConnectorRecord, NetworkConnectorVersionRecord};

const VPC_EGRESS: &str = "VPC_EGRESS";
/// Not of the service's.
const EGRESS_POLICY: &str = "EGRESS_POLICY";
const FIRST_VERSION: NetworkConnectorVersion = 1;

/// What CreateNetworkConnector and DeleteNetworkConnector answer: a version of the connector.
pub(super) fn description(
    connector: &NetworkConnectorRecord,
    version: &NetworkConnectorVersionRecord,
    state: NetworkConnectorState,
) -> NetworkConnectorDescription {
    NetworkConnectorDescription {
        arn: connector.arn.clone(),
        name: connector.name.clone(),
        id: connector.arn.id.clone(),
        version_arn: Some(connector.arn.qualified(version.version)),
        version: version.version,
        latest_version_arn: None,
        latest_version: None,
        configuration: version.configuration.clone(),
        operator_role: version.operator_role.clone(),
        state,
        state_reason: None,
        last_update_status: None,
        last_update_status_reason: None,
        last_modified: None,
    }
}

/// What UpdateNetworkConnector answers.
pub(super) fn updated(connector: &NetworkConnectorRecord, now: Timestamp) -> NetworkConnectorDescription {
    let reason = match connector.updated {
        Some(ConnectorUpdate::NoChange) => Some("No configuration changes detected".to_owned()),
        Some(ConnectorUpdate::NewVersion) | None => None,
    };
    NetworkConnectorDescription {
        last_update_status: connector.update_status(now),
        last_update_status_reason: reason,
        last_modified: Some(IsoTimestamp(connector.modified_at)),
        ..description(connector, &connector.latest, connector.state(now))
    }
}

/// What GetNetworkConnector answers about the connector.
pub(super) fn connector(connector: &NetworkConnectorRecord, now: Timestamp) -> NetworkConnectorDescription {
    NetworkConnectorDescription {
        version_arn: None,
        latest_version_arn: connector.latest_active.map(|version| connector.arn.qualified(version)),
        latest_version: connector.latest_active,
        state_reason: reason(FIRST_VERSION, connector.state(now)),
        ..updated(connector, now)
    }
}

/// What GetNetworkConnector answers about a version.
pub(super) fn version(
    connector: &NetworkConnectorRecord,
    version: &NetworkConnectorVersionRecord,
    now: Timestamp,
) -> NetworkConnectorDescription {
    let state = version.state(now);
    NetworkConnectorDescription {
        state_reason: reason(version.version, state),
        last_modified: Some(IsoTimestamp(version.created_at)),
        ..description(connector, version, state)
    }
}

pub(super) fn summary(connector: NetworkConnectorRecord, now: Timestamp) -> NetworkConnectorSummary {
    NetworkConnectorSummary {
        state: connector.state(now),
        latest_version_arn: connector.latest_active.map(|version| connector.arn.qualified(version)),
        latest_version: connector.latest_active,
        id: connector.arn.id.clone(),
        arn: connector.arn,
        name: connector.name,
        kind: if connector.egress_rules.is_some() { EGRESS_POLICY } else { VPC_EGRESS },
        last_modified: IsoTimestamp(connector.modified_at),
    }
}

pub(super) fn version_summary(
    name: &str,
    version: NetworkConnectorVersionRecord,
    now: Timestamp,
) -> NetworkConnectorVersionSummary {
    let state = version.state(now);
    NetworkConnectorVersionSummary {
        version_arn: version.arn.qualified(version.version),
        id: version.arn.id.clone(),
        arn: version.arn,
        name: name.to_owned(),
        version: version.version,
        state,
        state_reason: reason(version.version, state),
        last_modified: IsoTimestamp(version.created_at),
    }
}

/// What the service says of a connector that was made and neither failed nor is deleted
/// (recorded exchange).
fn reason(version: NetworkConnectorVersion, state: NetworkConnectorState) -> Option<String> {
    let initial = version == FIRST_VERSION
        && matches!(state, NetworkConnectorState::Pending | NetworkConnectorState::Active);
    initial.then(|| "Initial creation".to_owned())
}
