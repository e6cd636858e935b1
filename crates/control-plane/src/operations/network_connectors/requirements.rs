//! What the service requires although the model does not (recorded exchanges and measurements): it
//! refuses with sentences of its own, after the shape is known to be right.

use hearth_api::NetworkConnectorConfiguration;
use hearth_service::Error;

use super::invalid;

/// The operator role, which every connector there is requires.
pub(super) fn operator_role(role: Option<String>) -> Result<String, Error> {
    role.ok_or_else(|| invalid("NetworkConnectorOperatorRole is required for VPC_EGRESS connector type"))
}

/// Refuses a configuration that lacks something, and fills in the default that is echoed.
pub(super) fn complete(configuration: &mut NetworkConnectorConfiguration) -> Result<(), Error> {
    let vpc = &mut configuration.vpc_egress_configuration;
    for (member, missing) in [
        ("SubnetIds", vpc.subnet_ids.is_none()),
        ("NetworkProtocol", vpc.network_protocol.is_none()),
        ("AssociatedComputeResourceTypes", vpc.associated_compute_resource_types.is_none()),
    ] {
        if missing {
            return Err(invalid(format!("{member} cannot be null or empty")));
        }
    }
    vpc.security_group_ids.get_or_insert_default();
    Ok(())
}
