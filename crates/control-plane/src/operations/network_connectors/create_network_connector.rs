//! CreateNetworkConnector.

use hearth_api::{CreateNetworkConnectorRequest, NetworkConnectorArn};
use hearth_records::{InsertedNetworkConnector, NetworkConnectorRecord};
use hearth_service::shape::{Member, optional, patterned, required};
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb, to_json};

use super::shapes::{CLIENT_TOKEN, CONFIGURATION, NAME, ROLE};
use super::{CONNECTORS, answering, first_answer, invalid, name_taken, now, requirements, settled, views};
use crate::access::{Access, actor};
use crate::capacity::quota_exceeded;
use crate::config::Context;
use crate::operations::idempotency::client_token;
use crate::shapes::TAGS;

const NAMED: &str = "CreateNetworkConnector";

const SHAPE: &[Member] = &[
    required("Name", &patterned(1, 140, NAME)),
    required("Configuration", &CONFIGURATION),
    optional("OperatorRole", &ROLE),
    optional("ClientToken", &CLIENT_TOKEN),
    optional("Tags", &TAGS),
];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    NAMED,
    Effect::Write,
    answering(202, Verb::Post, CONNECTORS),
    SHAPE,
    Access::NewConnector(|context, call, ()| Box::pin(run(context, call))),
);

async fn run(context: &Context, call: Call) -> Outcome {
    let mut request: CreateNetworkConnectorRequest = call.read()?;
    let token = request.client_token.take();
    let tags = request.tags.clone().unwrap_or_default();
    let token = token.ok_or_else(|| invalid("ClientToken is a required field"))?;
    let mut configuration = request.configuration.clone();
    requirements::complete(&mut configuration)?;
    let operator_role = requirements::operator_role(request.operator_role.clone())?;
    let arn = NetworkConnectorArn::new(&context.config.region, &call.caller().account);
    context.authorize_pass_role(&call, &operator_role, &arn.to_string())?;

    let now = now();
    let first = NetworkConnectorRecord::first(
        arn,
        request.name.clone(),
        (configuration, operator_role),
        now,
        settled(now),
    );
    let connector = NetworkConnectorRecord { tags, ..first };
    let answer = to_json(&views::description(&connector, &connector.latest, connector.state(now)));
    let token = client_token(&call.caller().account, NAMED, Some(token), &request, &answer);
    let inserted = context
        .services
        .store
        .insert_network_connector(&connector, Some(&actor(&call)), token, now, &context.quotas())
        .await?;
    let answer = match inserted {
        InsertedNetworkConnector::Inserted => answer,
        InsertedNetworkConnector::NameTaken => return Err(name_taken(&connector.name)),
        InsertedNetworkConnector::QuotaExceeded(quota) => {
            return Err(quota_exceeded(quota, &context.quotas()));
        }
        InsertedNetworkConnector::Token(claim) => first_answer(claim)?.unwrap_or(answer),
    };
    Ok(Answer::text(answer))
}
