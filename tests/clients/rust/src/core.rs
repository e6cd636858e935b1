//! The network connectors of lambda-core. Of each answer, the members that the tests look at.

use aws_sdk_lambdacore as sdk;
use sdk::Client;
use sdk::types::{NetworkConnectorConfiguration, NetworkConnectorVpcEgressConfiguration, NetworkProtocol};
use serde_json::{Value, json};

use crate::value::{optional, text, texts};
use crate::{Answer, send};

/// A client that the environment describes.
pub(crate) fn client() -> Client {
    Client::from_conf(crate::configuration!(sdk))
}

/// Calls an operation.
pub(crate) async fn call(client: &Client, operation: &str, input: &Value) -> Answer {
    let identifier = || text(input, "Identifier");
    Ok(match operation {
        "CreateNetworkConnector" => {
            let request = client
                .create_network_connector()
                .name(text(input, "Name"))
                .configuration(configuration(input).expect("a configuration"))
                .set_operator_role(optional(input, "OperatorRole"));
            let made = send!(sdk, request.send().await)?;
            json!({"Id": made.id(), "Name": made.name(), "State": made.state().map(|state| state.as_str())})
        }
        "GetNetworkConnector" => {
            let shown = send!(sdk, client.get_network_connector().identifier(identifier()).send().await)?;
            json!({"Name": shown.name(), "State": shown.state().map(|state| state.as_str())})
        }
        "UpdateNetworkConnector" => {
            let request = client
                .update_network_connector()
                .identifier(identifier())
                .set_configuration(configuration(input));
            let updated = send!(sdk, request.send().await)?;
            json!({"Version": updated.version(),
                   "LastUpdateStatus": updated.last_update_status().map(|status| status.as_str())})
        }
        "DeleteNetworkConnector" => {
            let deleted =
                send!(sdk, client.delete_network_connector().identifier(identifier()).send().await)?;
            json!({"State": deleted.state().map(|state| state.as_str())})
        }
        _ => panic!("the client cannot {operation}"),
    })
}

fn configuration(input: &Value) -> Option<NetworkConnectorConfiguration> {
    let egress = &input["Configuration"]["VpcEgressConfiguration"];
    let resource_types = texts(egress, "AssociatedComputeResourceTypes");
    let resource_types = resource_types.map(|types| types.iter().map(|name| name.as_str().into()).collect());
    let egress = NetworkConnectorVpcEgressConfiguration::builder()
        .set_subnet_ids(texts(egress, "SubnetIds"))
        .set_security_group_ids(texts(egress, "SecurityGroupIds"))
        .set_associated_compute_resource_types(resource_types)
        .network_protocol(NetworkProtocol::from(text(egress, "NetworkProtocol").as_str()))
        .build();
    Some(NetworkConnectorConfiguration::VpcEgressConfiguration(egress))
}

/// Every page of a list.
pub(crate) async fn pages(client: &Client, operation: &str, input: &Value, size: i32) -> Answer {
    Ok(match operation {
        "ListNetworkConnectors" => {
            crate::pages!(sdk, client.list_network_connectors(), size, network_connectors, "Name", name)
        }
        "ListNetworkConnectorVersions" => {
            let request = client.list_network_connector_versions().identifier(text(input, "Identifier"));
            crate::pages!(sdk, request, size, network_connector_versions, "Version", version)
        }
        _ => panic!("the client has no paginator for {operation}"),
    })
}
