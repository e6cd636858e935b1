//! ListNetworkConnectors, by name.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::ListNetworkConnectorsResponse;
use hearth_records::ConnectorPage;

use super::refusal::Outcome;
use super::{marker, now, views};
use crate::answer::Answer;
use crate::call::Call;
use crate::config::{Context, store_failed};
use crate::shapes::network_connectors::LIST_NETWORK_CONNECTORS;

pub(super) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    let now = now();
    call.check(&LIST_NETWORK_CONNECTORS)?;
    context.authorize(&call, "ListNetworkConnectors")?;
    let request = marker::page(&context, &call, marker::DEFAULT_ITEMS)?;
    let wanted = ConnectorPage {
        after: request.after.as_deref(),
        state: marker::state(&call),
        limit: request.limit + 1,
        now,
    };
    let store = &context.services.store;
    let records = store
        .network_connectors(&call.caller.account, &wanted)
        .await
        .map_err(|error| store_failed(&error))?;
    let page = request.page(records, |record| record.name.clone(), |record| views::summary(record, now));
    Ok(Answer::ok(&ListNetworkConnectorsResponse {
        network_connectors: page.items,
        next_marker: page.next_token,
    }))
}
