//! UpdateNetworkConnector: a new version, unless nothing changes.

use hearth_api::{
    NetworkConnectorState, NetworkConnectorUpdateStatus, Timestamp, UpdateNetworkConnectorRequest,
};
use hearth_records::{
    ConnectorUpdate, NetworkConnectorRecord, NetworkConnectorVersionRecord, UpdatedNetworkConnector, Written,
};
use hearth_service::shape::{Member, optional};
use hearth_service::{Answer, Call, Effect, Error, Operation, Outcome, Verb, to_json};

use super::shapes::{CLIENT_TOKEN, CONFIGURATION, IDENTIFIER, ROLE};
use super::{CONNECTOR, answering, conflict, first_answer, requirements, settled, views};
use crate::access::{Access, actor};
use crate::capacity::quota_exceeded;
use crate::config::Context;
use crate::named_connectors::{NamedConnector, Which, invalid};
use crate::operations::idempotency::client_token;

const NAMED: &str = "UpdateNetworkConnector";

const SHAPE: &[Member] = &[
    IDENTIFIER,
    optional("Configuration", &CONFIGURATION),
    optional("OperatorRole", &ROLE),
    optional("ClientToken", &CLIENT_TOKEN),
];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    NAMED,
    Effect::Write,
    answering(202, Verb::Put, CONNECTOR),
    SHAPE,
    Access::Connector(Which::Whole, |context, call, named| Box::pin(run(context, call, named))),
);

async fn run(context: &Context, call: Call, named: NamedConnector) -> Outcome {
    let NamedConnector { record: mut connector, now, .. } = named;
    let mut request: UpdateNetworkConnectorRequest = call.read()?;
    let token = request.client_token.take();
    let store = &context.services.store;
    let arn = connector.arn.clone();
    let token =
        |answer: &str| client_token(&call.caller().account, NAMED, token.clone(), &(&arn, &request), answer);
    // A repeated call gets its answer although its first one is in progress.
    if let Some(token) = token("")
        && let Some(answer) = first_answer(store.client_token(&token).await?)?
    {
        return Ok(Answer::text(answer));
    }
    if let Some(role) = &request.operator_role {
        context.authorize_pass_role(&call, role, &arn.to_string())?;
    }
    if connector.egress_rules.is_some() {
        let message =
            format!("{arn} is an egress policy, of which only the rules can be changed (PutEgressRules).");
        return Err(invalid(message));
    }
    check_state(&connector, now)?;
    let (actor, quotas) = (actor(&call), &context.quotas());
    loop {
        let changed = change(&connector, &request, now)?;
        let answer = to_json(&views::updated(&changed, now));
        let token = token(&answer);
        let updated = store.update_network_connector(&connector, &changed, Some(&actor), token, now, quotas);
        match updated.await? {
            UpdatedNetworkConnector::Written(Written::Yes) => return Ok(Answer::text(answer)),
            // A version that nobody needs was deleted, or an update changed nothing.
            UpdatedNetworkConnector::Written(Written::Stale(Some(known)))
                if known.latest == connector.latest =>
            {
                connector = *known;
            }
            UpdatedNetworkConnector::Written(Written::Stale(_)) => {
                let message = format!("The network connector {arn} was changed by another request.");
                return Err(conflict(message));
            }
            UpdatedNetworkConnector::QuotaExceeded(quota) => return Err(quota_exceeded(quota, quotas)),
            UpdatedNetworkConnector::Token(claim) => {
                return Ok(Answer::text(first_answer(claim)?.unwrap_or(answer)));
            }
        }
    }
}

fn check_state(connector: &NetworkConnectorRecord, now: Timestamp) -> Result<(), Error> {
    let state = connector.state(now);
    if state != NetworkConnectorState::Active {
        let message =
            format!("The network connector {} is in state {}, not ACTIVE.", connector.arn, state.as_str());
        return Err(conflict(message));
    }
    if connector.update_status(now) == Some(NetworkConnectorUpdateStatus::InProgress) {
        return Err(conflict(format!(
            "An update of the network connector {} is in progress.",
            connector.arn
        )));
    }
    Ok(())
}

/// The connector as the request wants it. A configuration replaces the former one as a whole.
fn change(
    connector: &NetworkConnectorRecord,
    request: &UpdateNetworkConnectorRequest,
    now: Timestamp,
) -> Result<NetworkConnectorRecord, Error> {
    let (former, generation) = (&connector.latest, connector.generation + 1);
    let configuration = match request.configuration.clone() {
        Some(mut configuration) => {
            requirements::complete(&mut configuration)?;
            configuration
        }
        None => former.configuration.clone(),
    };
    let operator_role = request.operator_role.clone().unwrap_or_else(|| former.operator_role.clone());
    if configuration == former.configuration && operator_role == former.operator_role {
        return Ok(NetworkConnectorRecord {
            updated: Some(ConnectorUpdate::NoChange),
            generation,
            ..connector.clone()
        });
    }
    let latest = NetworkConnectorVersionRecord {
        arn: connector.arn.clone(),
        version: former.version + 1,
        configuration,
        operator_role,
        created_at: now,
        active_at: settled(now),
        gone_at: None,
    };
    Ok(NetworkConnectorRecord {
        generation,
        modified_at: now,
        updated: Some(ConnectorUpdate::NewVersion),
        latest,
        ..connector.clone()
    })
}
