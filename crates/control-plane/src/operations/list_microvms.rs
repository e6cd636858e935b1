//! ListMicrovms, newest first; ended ones stay listed.

use std::time::Instant;

use bytes::Bytes;
use hearth_api::{ImageVersion, MicrovmId, Page, Timestamp};
use hearth_records::{MicrovmFilter, MicrovmSummary};
use hearth_service::shape::{Member, Shape, Text, query};
use hearth_service::validate::violation;
use hearth_service::{Answer, Call, Effect, Error, Operation, Outcome, Verb, to_json};

use super::{on, views};
use crate::access::Access;
use crate::config::Context;
use crate::recent_pages::RecentPages;
use crate::shapes::{IDENTIFIER, MAX_RESULTS, NEXT_TOKEN};

const SHAPE: &[Member] = &[
    MAX_RESULTS,
    NEXT_TOKEN,
    query("imageIdentifier", &IDENTIFIER),
    query("imageVersion", &Shape::Text(Text::ANY)),
];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "ListMicrovms",
    Effect::Read,
    on(Verb::Get, "/2025-09-09/microvms"),
    SHAPE,
    Access::Everything(|context, call, ()| Box::pin(run(context, call))),
);

async fn run(context: &Context, call: Call) -> Outcome {
    let store = &context.services.store;
    let question = RecentPages::question(&**store, &call);
    if let Some(body) = context.recent_pages.get(&question, Instant::now()) {
        return Ok(Answer::text(body));
    }
    let page = context.page(&call)?;
    let input = call.input();
    let image_arn =
        input.get("imageIdentifier").map(|text| context.read_image_arn(&call, text)).transpose()?;
    let image_version = input.get("imageVersion").map(read_version).transpose()?;
    let filter = MicrovmFilter { account: call.caller().account.clone(), image_arn, image_version };
    let after = page.after.as_deref().and_then(read_place);
    let after = after.as_ref().map(|(started_at, id)| (*started_at, id));
    let mut records = store.microvms(&filter, after, page.limit + 1).await?;
    let next_token = page.cut(&mut records, place);
    let items = records.into_iter().map(views::microvm_item).collect();
    let body = Bytes::from(to_json(&Page { items, next_token }));
    context.recent_pages.put(question, body.clone(), Instant::now());
    Ok(Answer::text(body))
}

fn read_version(text: &str) -> Result<ImageVersion, Error> {
    let rule = "Member must be a version such as 1.0";
    ImageVersion::parse(text).ok_or_else(|| Error::validation(violation(text, "imageVersion", rule)))
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
