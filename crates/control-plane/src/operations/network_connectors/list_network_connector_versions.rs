//! ListNetworkConnectorVersions, newest first.

use hearth_api::ListNetworkConnectorVersionsResponse;
use hearth_records::ConnectorPage;
use hearth_service::pages::Page;
use hearth_service::shape::Member;
use hearth_service::{Answer, Asked, Call, Effect, Error, Operation, Outcome, Verb};

use super::shapes::{IDENTIFIER, MARKER, MAX_ITEMS, STATE};
use super::{answering, marker, views};
use crate::access::Access;
use crate::config::Context;
use crate::named_connectors::{NamedConnector, Which};

const SHAPE: &[Member] = &[IDENTIFIER, STATE, MAX_ITEMS, MARKER];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "ListNetworkConnectorVersions",
    Effect::Read,
    answering(200, Verb::Get, "/2026-04-04/network-connectors/{identifier}/versions"),
    SHAPE,
    Access::Connector(Which::Whole, |context, call, named| Box::pin(run(context, call, named))),
)
.with_rule(|context, asked| page(context, asked).map(drop));

/// The page that is asked for, and the version that it begins after.
fn page(context: &Context, asked: &Asked) -> Result<(Page, Option<u32>), Error> {
    let page = marker::page(context, asked, u32::MAX)?;
    let after = page.after.as_deref().map(|text| text.parse().map_err(|_| marker::invalid_marker()));
    let after = after.transpose()?;
    Ok((page, after))
}

async fn run(context: &Context, call: Call, named: NamedConnector) -> Outcome {
    let NamedConnector { record: connector, now, .. } = named;
    let (page, after) = page(context, &call)?;
    let wanted = ConnectorPage { after, state: marker::state(&call), limit: page.limit + 1, now };
    let mut records = context.services.store.network_connector_versions(&connector.arn, &wanted).await?;
    let next_marker = page.cut(&mut records, |record| record.version.to_string());
    let shown = records.into_iter().map(|record| views::version_summary(&connector.name, record, now));
    let network_connector_versions = shown.collect();
    Ok(Answer::json(&ListNetworkConnectorVersionsResponse { network_connector_versions, next_marker }))
}
