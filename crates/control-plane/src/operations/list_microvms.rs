//! ListMicrovms, newest first; ended ones stay listed.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use bytes::Bytes;
use hearth_api::{ImageVersion, MicrovmId, Timestamp};
use hearth_records::{MicrovmFilter, MicrovmSummary};
use http::StatusCode;

use super::views;
use crate::answer::{Answer, Outcome, to_json};
use crate::call::Call;
use crate::config::{Context, store_failed};
use crate::page::PageRequest;
use crate::recent_pages::RecentPages;
use crate::shapes::LIST_MICROVMS;
use crate::validate::violation;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    call.check(&LIST_MICROVMS)?;
    context.authorize(&call, "ListMicrovms")?;
    let question = RecentPages::question(&*context.services.store, &call);
    if let Some(body) = context.recent_pages.get(&question, Instant::now()) {
        return Ok(Answer::text(StatusCode::OK, body));
    }
    let request = PageRequest::of(&context, &call)?;
    let image_arn =
        call.query("imageIdentifier").map(|text| context.read_image_arn(&call, text)).transpose()?;
    let image_version = call
        .query("imageVersion")
        .map(|text| {
            let rule = "Member must be a version such as 1.0";
            ImageVersion::parse(text).ok_or_else(|| violation(text, "imageVersion", rule))
        })
        .transpose()?;
    let filter = MicrovmFilter { account: call.caller.account.clone(), image_arn, image_version };
    let after = request.after.as_deref().and_then(read_place);
    let records = context
        .services
        .store
        .microvms(&filter, after.as_ref().map(|(started_at, id)| (*started_at, id)), request.limit + 1)
        .await
        .map_err(|error| store_failed(&error))?;
    let body = Bytes::from(to_json(&request.page(records, place, views::microvm_item)));
    context.recent_pages.put(question, body.clone(), Instant::now());
    Ok(Answer::text(StatusCode::OK, body))
}

/// Where a page ended: also when that record has expired since, the next page begins there.
fn place(record: &MicrovmSummary) -> String {
    format!("{} {}", record.started_at.as_millis(), record.id)
}

/// What [`place`] wrote; page tokens cannot be forged.
fn read_place(text: &str) -> Option<(Timestamp, MicrovmId)> {
    let (started_at, id) = text.split_once(' ')?;
    Some((Timestamp::from_millis(started_at.parse().ok()?), MicrovmId::from_stored(id)))
}
