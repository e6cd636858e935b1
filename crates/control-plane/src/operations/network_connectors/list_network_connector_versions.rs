//! ListNetworkConnectorVersions, newest first.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::ListNetworkConnectorVersionsResponse;
use hearth_records::ConnectorPage;

use super::refusal::Outcome;
use super::{identifier, marker, now, views};
use crate::answer::Answer;
use crate::call::Call;
use crate::config::{Context, store_failed};
use crate::shapes::network_connectors::LIST_NETWORK_CONNECTOR_VERSIONS;

pub(super) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    let now = now();
    call.check(&LIST_NETWORK_CONNECTOR_VERSIONS)?;
    let request = marker::page(&context, &call, u32::MAX)?;
    let after = request.after.as_deref().map(|text| text.parse().map_err(|_| marker::invalid_marker()));
    let wanted = ConnectorPage {
        after: after.transpose()?,
        state: marker::state(&call),
        limit: request.limit + 1,
        now,
    };
    let arn = identifier::unqualified_arn(&context, &call)?;
    let connector = identifier::connector(&context, &call, "ListNetworkConnectorVersions", &arn, now).await?;
    let store = &context.services.store;
    let records = store
        .network_connector_versions(&connector.arn, &wanted)
        .await
        .map_err(|error| store_failed(&error))?;
    let page = request.page(
        records,
        |record| record.version.to_string(),
        |record| views::version_summary(&connector.name, record, now),
    );
    Ok(Answer::ok(&ListNetworkConnectorVersionsResponse {
        network_connector_versions: page.items,
        next_marker: page.next_token,
    }))
}
