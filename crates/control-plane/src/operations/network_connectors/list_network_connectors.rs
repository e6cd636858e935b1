//! ListNetworkConnectors, by name.

use hearth_api::ListNetworkConnectorsResponse;
use hearth_records::ConnectorPage;
use hearth_service::shape::Member;
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::shapes::{MARKER, MAX_ITEMS, STATE};
use super::{CONNECTORS, answering, marker, now, views};
use crate::access::Access;
use crate::config::Context;

const SHAPE: &[Member] = &[STATE, MAX_ITEMS, MARKER];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "ListNetworkConnectors",
    Effect::Read,
    answering(200, Verb::Get, CONNECTORS),
    SHAPE,
    Access::Everything(|context, call, ()| Box::pin(run(context, call))),
);

async fn run(context: &Context, call: Call) -> Outcome {
    let now = now();
    let page = marker::page(context, &call, marker::DEFAULT_ITEMS)?;
    let wanted = ConnectorPage {
        after: page.after.as_deref(),
        state: marker::state(&call),
        limit: page.limit + 1,
        now,
    };
    let account = &call.caller().account;
    let mut records = context.services.store.network_connectors(account, &wanted).await?;
    let next_marker = page.cut(&mut records, |record| record.name.clone());
    let network_connectors = records.into_iter().map(|record| views::summary(record, now)).collect();
    Ok(Answer::json(&ListNetworkConnectorsResponse { network_connectors, next_marker }))
}
