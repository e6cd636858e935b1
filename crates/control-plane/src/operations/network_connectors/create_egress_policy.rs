//! CreateEgressPolicy: a network connector with rules, ACTIVE at once.

use hearth_api::NetworkConnectorArn;
use hearth_records::{InsertedNetworkConnector, NetworkConnectorRecord};
use hearth_service::shape::{Member, patterned, required};
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};
use serde::Deserialize;

use super::egress_policies::{POLICIES, RULES_MEMBER, Rules, configuration, told};
use super::shapes::NAME;
use super::{answering, invalid, name_taken, now};
use crate::access::{Access, actor};
use crate::capacity::quota_exceeded;
use crate::config::Context;
use crate::connectors::EGRESS;

/// What `hearth run --egress` calls the managed connectors.
const SHORT: [&str; 2] = ["none", "internet"];

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
    if SHORT.iter().chain(&EGRESS).any(|managed| name.eq_ignore_ascii_case(managed)) {
        return Err(invalid(format!(
            "An egress policy cannot be named '{name}', which stands for a managed connector."
        )));
    }
    let rules = call.read::<Rules>()?.checked()?;
    let (arn, now) = (NetworkConnectorArn::new(&context.config.region, &call.caller().account), now());
    // Nobody acts for the service here.
    let first = NetworkConnectorRecord::first(arn, name, (configuration(), String::new()), now, now);
    let connector = NetworkConnectorRecord { egress_rules: Some(rules), ..first };
    let (store, quotas, actor) = (&context.services.store, context.quotas(), actor(&call));
    match store.insert_network_connector(&connector, Some(&actor), None, now, &quotas).await? {
        InsertedNetworkConnector::NameTaken => Err(name_taken(&connector.name)),
        InsertedNetworkConnector::QuotaExceeded(quota) => Err(quota_exceeded(quota, &quotas)),
        // There is no token that could have been used before.
        InsertedNetworkConnector::Inserted | InsertedNetworkConnector::Token(_) => {
            Ok(Answer::json(&told(&connector, now)?))
        }
    }
}
