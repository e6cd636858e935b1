//! CreateNetworkConnector.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::{CreateNetworkConnectorRequest, NetworkConnectorArn};
use hearth_records::{
    InsertedNetworkConnector, NetworkConnectorRecord, NetworkConnectorVersionRecord, Taggable,
};
use http::StatusCode;

use super::refusal::Outcome;
use super::{conflict, first_answer, invalid, now, requirements, settled, views};
use crate::answer::{Answer, to_json};
use crate::call::Call;
use crate::capacity::quota_exceeded;
use crate::config::{Context, store_failed};
use crate::operations::idempotency::client_token;
use crate::shapes::network_connectors::CREATE_NETWORK_CONNECTOR;

const OPERATION: &str = "CreateNetworkConnector";

pub(super) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    let mut request: CreateNetworkConnectorRequest = call.input(&CREATE_NETWORK_CONNECTOR)?;
    let token = request.client_token.take();
    let any = NetworkConnectorArn::of(&context.config.region, &call.caller.account, "*");
    let tags = request.tags.clone().unwrap_or_default();
    context.authorize_tagging(&call, OPERATION, &Taggable::NetworkConnector(any), &tags).await?;
    let token = token.ok_or_else(|| invalid("ClientToken is a required field"))?;
    let mut configuration = request.configuration.clone();
    requirements::complete(&mut configuration)?;
    let operator_role = requirements::operator_role(request.operator_role.clone())?;
    let arn = NetworkConnectorArn::new(&context.config.region, &call.caller.account);
    context.authorize_pass_role(&call, &operator_role, &arn.to_string())?;

    let now = now();
    let connector = NetworkConnectorRecord {
        arn: arn.clone(),
        name: request.name.clone(),
        tags,
        modified_at: now,
        active_at: settled(now),
        updated: None,
        gone_at: None,
        latest_active: None,
        latest: NetworkConnectorVersionRecord {
            arn,
            version: 1,
            configuration,
            operator_role,
            created_at: now,
            active_at: settled(now),
            gone_at: None,
        },
    };
    let answer = to_json(&views::description(&connector, &connector.latest, connector.state(now)));
    let token = client_token(&call.caller.account, OPERATION, Some(token), &request, &answer);
    let inserted = context
        .services
        .store
        .insert_network_connector(&connector, token, now, &context.config.quotas)
        .await
        .map_err(|error| store_failed(&error))?;
    let answer = match inserted {
        InsertedNetworkConnector::Inserted => answer,
        InsertedNetworkConnector::NameTaken => {
            let message = format!("A network connector with the name '{}' already exists", connector.name);
            return Err(conflict(message).into());
        }
        InsertedNetworkConnector::QuotaExceeded(quota) => {
            return Err(quota_exceeded(quota, &context.config.quotas).into());
        }
        InsertedNetworkConnector::Token(claim) => first_answer(claim)?.unwrap_or(answer),
    };
    Ok(Answer::text(StatusCode::ACCEPTED, answer))
}
