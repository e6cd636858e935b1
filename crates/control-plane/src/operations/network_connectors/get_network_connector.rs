//! GetNetworkConnector: the connector, or with a qualified ARN one of its versions.

use std::sync::Arc;

use axum::extract::State;

use super::refusal::Outcome;
use super::{identifier, now, views};
use crate::answer::Answer;
use crate::call::Call;
use crate::config::Context;
use crate::connectors::connector_not_found;

pub(super) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    let now = now();
    let arn = identifier::arn(&context, &call)?;
    let connector = identifier::connector(&context, &call, "GetNetworkConnector", &arn, now).await?;
    let Some(number) = arn.version else {
        return Ok(Answer::ok(&views::connector(&connector, now)));
    };
    let version = identifier::version_or_gone(&context, &arn, number).await?;
    if version.is_gone(now) {
        return Err(connector_not_found(&arn.to_string()).into());
    }
    Ok(Answer::ok(&views::version(&connector, &version, now)))
}
