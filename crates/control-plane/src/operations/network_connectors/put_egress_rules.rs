//! PutEgressRules: replaces all rules of an egress policy, also for the microVMs that run with it.

use hearth_records::{NetworkConnectorRecord, UpdatedNetworkConnector, Written};
use hearth_service::shape::Member;
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::egress_policies::{POLICY, RULES_MEMBER, Rules, told};
use super::shapes::IDENTIFIER;
use super::{answering, conflict};
use crate::access::{Access, actor};
use crate::capacity::quota_exceeded;
use crate::config::Context;
use crate::named_connectors::{NamedConnector, Which};

const SHAPE: &[Member] = &[IDENTIFIER, RULES_MEMBER];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "PutEgressRules",
    Effect::Write,
    answering(200, Verb::Put, POLICY),
    SHAPE,
    Access::Connector(Which::Whole, |context, call, named| Box::pin(run(context, call, named))),
)
.as_action("UpdateNetworkConnector");

async fn run(context: &Context, call: Call, named: NamedConnector) -> Outcome {
    let NamedConnector { record: mut connector, now, .. } = named;
    // Also what a connector that is none is told.
    told(&connector, now)?;
    let rules = Some(call.read::<Rules>()?.checked()?);
    let (store, quotas, actor) = (&context.services.store, context.quotas(), actor(&call));
    loop {
        if connector.gone_at.is_some() {
            return Err(conflict(format!("The network connector {} is being deleted.", connector.arn)));
        }
        let to = NetworkConnectorRecord {
            generation: connector.generation + 1,
            modified_at: now,
            egress_rules: rules.clone(),
            ..connector.clone()
        };
        if connector.egress_rules != rules {
            let update = store.update_network_connector(&connector, &to, Some(&actor), None, now, &quotas);
            match update.await? {
                UpdatedNetworkConnector::Written(Written::Stale(Some(known))) => {
                    connector = *known;
                    continue;
                }
                UpdatedNetworkConnector::Written(Written::Stale(None)) => {
                    return Err(conflict(format!("The network connector {} was deleted.", connector.arn)));
                }
                UpdatedNetworkConnector::QuotaExceeded(quota) => return Err(quota_exceeded(quota, &quotas)),
                UpdatedNetworkConnector::Written(Written::Yes) | UpdatedNetworkConnector::Token(_) => {}
            }
        }
        // Also when nothing has changed: an earlier call may not have come this far.
        context.services.node.egress_changed(&connector.arn).await;
        return Ok(Answer::json(&told(&to, now)?));
    }
}
