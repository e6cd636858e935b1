//! GetNetworkConnector: the connector, or with a qualified ARN one of its versions.

use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::shapes::IDENTIFIER_ONLY;
use super::{CONNECTOR, answering, views};
use crate::access::Access;
use crate::config::Context;
use crate::connectors::connector_not_found;
use crate::named_connectors::{NamedConnector, Which, version_or_gone};

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "GetNetworkConnector",
    Effect::Read,
    answering(200, Verb::Get, CONNECTOR),
    IDENTIFIER_ONLY,
    Access::Connector(Which::Any, |context, call, named| Box::pin(run(context, call, named))),
);

async fn run(context: &Context, _: Call, named: NamedConnector) -> Outcome {
    let NamedConnector { wanted: arn, record: connector, now } = named;
    let Some(number) = arn.version else {
        return Ok(Answer::json(&views::connector(&connector, now)));
    };
    let version = version_or_gone(context, &arn, number).await?;
    if version.is_gone(now) {
        return Err(connector_not_found(&arn.to_string()));
    }
    Ok(Answer::json(&views::version(&connector, &version, now)))
}
