//! Egress policies: an extension, which AWS does not have. Each is a network connector with rules,
//! which microVMs and images name as their egress connector.

use hearth_api::{
    ComputeResourceType, EgressPolicy, NetworkConnectorConfiguration, Timestamp, VpcEgressConfiguration,
};
use hearth_egress_policy::{Policy, RuleText};
use hearth_records::NetworkConnectorRecord;
use hearth_service::Error;
use hearth_service::shape::{Member, Shape, optional, required, text};
use serde::Deserialize;

use super::invalid;

pub(super) const POLICIES: &str = "/hearth/2026-11-22/egress-policies";
pub(super) const POLICY: &str = "/hearth/2026-11-22/egress-policies/{identifier}";

/// More than any rule has; how many there may be, the policy says.
const RULES: Shape = Shape::List(
    &Shape::Structure(&[
        optional("domain", &text(1, 1024)),
        optional("cidr", &text(1, 64)),
        optional("protocol", &text(1, 16)),
        optional("ports", &Shape::List(&text(1, 32), 0, 1024)),
    ]),
    0,
    100_000,
);
/// The rules of a request.
pub(super) const RULES_MEMBER: Member = required("rules", &RULES);

/// The body of a request with rules.
#[derive(Debug, Deserialize)]
pub(super) struct Rules {
    pub(super) rules: Vec<RuleText>,
}

impl Rules {
    /// The rules, if they make a policy.
    pub(super) fn checked(self) -> Result<Vec<RuleText>, Error> {
        match Policy::parse(&self.rules) {
            Ok(_) => Ok(self.rules),
            Err(error) => Err(invalid(error.to_string())),
        }
    }
}

/// What a policy's connector says about a VPC: nothing, but for whom it is.
pub(super) fn configuration() -> NetworkConnectorConfiguration {
    let vpc_egress_configuration = VpcEgressConfiguration {
        subnet_ids: None,
        security_group_ids: None,
        network_protocol: None,
        associated_compute_resource_types: Some(vec![ComputeResourceType::MicroVm]),
        elastic_ip_configuration: None,
    };
    NetworkConnectorConfiguration { vpc_egress_configuration }
}

/// A policy as it is told.
pub(super) fn told(record: &NetworkConnectorRecord, now: Timestamp) -> Result<EgressPolicy<RuleText>, Error> {
    let no_policy = || {
        let message = format!("The network connector {} is no egress policy: it has no rules.", record.arn);
        invalid(message)
    };
    Ok(EgressPolicy {
        network_connector_arn: record.arn.clone(),
        name: record.name.clone(),
        state: record.state(now),
        updated_at: record.modified_at,
        rules: record.egress_rules.clone().ok_or_else(no_policy)?,
    })
}
