//! CreateEgressPolicy: a network connector with rules, ACTIVE at once.

use hearth_api::NetworkConnectorArn;
use hearth_records::{InsertedNetworkConnector, NetworkConnectorRecord, NetworkConnectorVersionRecord};
use hearth_service::shape::{Member, patterned, required};
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};
use serde::Deserialize;

use super::egress_policies::{POLICIES, RULES_MEMBER, Rules, configuration, told};
use super::shapes::NAME;
use super::{answering, conflict, invalid, now};
use crate::access::{Access, actor};
use crate::capacity::quota_exceeded;
use crate::config::Context;

/// What `hearth run --egress` and the configuration call the managed connectors.
const RESERVED: [&str; 4] = ["none", "internet", "NO_EGRESS", "INTERNET_EGRESS"];

const SHAPE: &[Member] = &[required("name", &patterned(1, 64, NAME)), RULES_MEMBER];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "CreateEgressPolicy",
    Effect::Write,
    answering(201, Verb::Post, POLICIES),
    SHAPE,
    Access::NewConnector(|context, call, ()| Box::pin(run(context, call))),
)
.as_action("CreateNetworkConnector");

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

async fn run(context: &Context, call: Call) -> Outcome {
    let Named { name } = call.read()?;
    if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err(invalid(format!(
            "An egress policy cannot be named '{name}', which stands for a managed connector."
        )));
    }
    let rules = call.read::<Rules>()?.checked()?;
    let (arn, now) = (NetworkConnectorArn::new(&context.config.region, &call.caller().account), now());
    let connector = NetworkConnectorRecord {
        arn: arn.clone(),
        generation: 0,
        name,
        tags: [].into(),
        modified_at: now,
        active_at: now,
        updated: None,
        gone_at: None,
        egress_rules: Some(rules),
        latest_active: None,
        latest: NetworkConnectorVersionRecord {
            arn,
            version: 1,
            configuration: configuration(),
            operator_role: String::new(),
            created_at: now,
            active_at: now,
            gone_at: None,
        },
    };
    let (store, quotas, actor) = (&context.services.store, context.quotas(), actor(&call));
    match store.insert_network_connector(&connector, Some(&actor), None, now, &quotas).await? {
        InsertedNetworkConnector::NameTaken => {
            Err(conflict(format!("A network connector with the name '{}' already exists", connector.name)))
        }
        InsertedNetworkConnector::QuotaExceeded(quota) => Err(quota_exceeded(quota, &quotas)),
        // There is no token that could have been used before.
        InsertedNetworkConnector::Inserted | InsertedNetworkConnector::Token(_) => {
            Ok(Answer::json(&told(&connector, now)?))
        }
    }
}
