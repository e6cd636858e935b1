//! Network connectors of `lambda-core` on the wire.
//!
//! Members are in PascalCase, and those without a value are left out (recorded exchanges). Times
//! are ISO 8601 text (shape `CoreTimestamp` of the model).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use crate::Timestamp;
use crate::image::wire_enum;

mod arn;

pub use arn::{NetworkConnectorArn, NetworkConnectorVersion, reaches_internet};

wire_enum!(
    /// State of a connector or of one of its versions.
    NetworkConnectorState {
        /// Being made.
        Pending => "PENDING",
        /// Can be used.
        Active => "ACTIVE",
        /// Cannot be used for the time being.
        Inactive => "INACTIVE",
        /// Could not be made.
        Failed => "FAILED",
        /// Being deleted.
        Deleting => "DELETING",
        /// Could not be deleted.
        DeleteFailed => "DELETE_FAILED",
    }
);
wire_enum!(
    /// How far the last update is.
    NetworkConnectorUpdateStatus {
        /// It took effect, or changed nothing.
        Successful => "Successful",
        /// It did not take effect.
        Failed => "Failed",
        /// It does not have effect yet.
        InProgress => "InProgress",
    }
);
wire_enum!(
    /// IP versions of a connector.
    NetworkProtocol {
        /// IPv4 only.
        Ipv4 => "IPv4",
        /// IPv4 and IPv6.
        DualStack => "DualStack",
    }
);
wire_enum!(
    /// What can use a connector.
    ComputeResourceType {
        /// MicroVMs and their images.
        MicroVm => "MicroVm",
        /// Something that does not exist here.
        WebFunction => "WebFunction",
    }
);
wire_enum!(
    /// Whether a connector's interfaces have Elastic IP addresses.
    ElasticIpType {
        /// They have none.
        None => "None",
        /// The service assigns them.
        ServiceManaged => "ServiceManaged",
    }
);

/// Where a connector leads (`NetworkConnectorConfiguration` union of the model, which
/// has this one member).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkConnectorConfiguration {
    /// Into a VPC.
    pub vpc_egress_configuration: VpcEgressConfiguration,
}

/// A place in a VPC. All members but the last are set in a stored one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VpcEgressConfiguration {
    /// 1 to 16 subnets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet_ids: Option<Vec<String>>,
    /// At most 16 security groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_group_ids: Option<Vec<String>>,
    /// IP versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_protocol: Option<NetworkProtocol>,
    /// Exactly one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub associated_compute_resource_types: Option<Vec<ComputeResourceType>>,
    /// Elastic IP addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elastic_ip_configuration: Option<ElasticIpConfiguration>,
}

/// Elastic IP addresses of a connector's interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ElasticIpConfiguration {
    /// Whether there are any.
    #[serde(rename = "Type")]
    pub kind: ElasticIpType,
}

/// CreateNetworkConnector, request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateNetworkConnectorRequest {
    /// Name, unique in the account.
    pub name: String,
    /// Where it leads.
    pub configuration: NetworkConnectorConfiguration,
    /// Role of the service in the account.
    pub operator_role: Option<String>,
    /// Makes the call repeatable.
    pub client_token: Option<String>,
    /// Tags.
    pub tags: Option<BTreeMap<String, String>>,
}

/// UpdateNetworkConnector, request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateNetworkConnectorRequest {
    /// Where it leads from now on.
    pub configuration: Option<NetworkConnectorConfiguration>,
    /// Role of the service in the account from now on.
    pub operator_role: Option<String>,
    /// Makes the call repeatable.
    pub client_token: Option<String>,
}

/// Answer of CreateNetworkConnector, GetNetworkConnector, UpdateNetworkConnector and
/// DeleteNetworkConnector, each of which has some of the optional members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkConnectorDescription {
    /// ARN without a version.
    pub arn: NetworkConnectorArn,
    /// Name.
    pub name: String,
    /// `nc-<uuid>`.
    pub id: String,
    /// ARN with the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_arn: Option<NetworkConnectorArn>,
    /// Version that is described.
    pub version: NetworkConnectorVersion,
    /// ARN with the newest version in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_version_arn: Option<NetworkConnectorArn>,
    /// Newest version in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_version: Option<NetworkConnectorVersion>,
    /// Where it leads.
    pub configuration: NetworkConnectorConfiguration,
    /// Role of the service in the account.
    pub operator_role: String,
    /// State.
    pub state: NetworkConnectorState,
    /// Why it is in its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<String>,
    /// How far the last update is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_status: Option<NetworkConnectorUpdateStatus>,
    /// What there is to say about the last update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_status_reason: Option<String>,
    /// Last change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<IsoTimestamp>,
}

/// Item of ListNetworkConnectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkConnectorSummary {
    /// ARN.
    pub arn: NetworkConnectorArn,
    /// Name.
    pub name: String,
    /// `nc-<uuid>`.
    pub id: String,
    /// Always `VPC_EGRESS`.
    #[serde(rename = "Type")]
    pub kind: &'static str,
    /// State.
    pub state: NetworkConnectorState,
    /// Last change.
    pub last_modified: IsoTimestamp,
    /// ARN with the newest version in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_version_arn: Option<NetworkConnectorArn>,
    /// Newest version in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_version: Option<NetworkConnectorVersion>,
}

/// Item of ListNetworkConnectorVersions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkConnectorVersionSummary {
    /// ARN without the version.
    pub arn: NetworkConnectorArn,
    /// ARN with the version.
    pub version_arn: NetworkConnectorArn,
    /// Name.
    pub name: String,
    /// `nc-<uuid>`.
    pub id: String,
    /// Version.
    pub version: NetworkConnectorVersion,
    /// State.
    pub state: NetworkConnectorState,
    /// Why it is in its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<String>,
    /// Last change.
    pub last_modified: IsoTimestamp,
}

/// ListNetworkConnectors, answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListNetworkConnectorsResponse {
    /// Items.
    pub network_connectors: Vec<NetworkConnectorSummary>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
}

/// ListNetworkConnectorVersions, answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListNetworkConnectorVersionsResponse {
    /// Items.
    pub network_connector_versions: Vec<NetworkConnectorVersionSummary>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
}

/// A moment as `lambda-core` writes it: RFC 3339 text in UTC, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IsoTimestamp(pub Timestamp);

impl Serialize for IsoTimestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.0.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_iso_8601_to_the_millisecond() {
        let time = IsoTimestamp(Timestamp::from_millis(1_700_000_000_007));
        assert_eq!(serde_json::to_value(time).unwrap(), "2023-11-14T22:13:20.007Z");
    }
}
