//! ListMicrovmImages. As on the service, `maxResults` counts before `nameFilter` does, so a page
//! can be short or empty and still have a successor.

use hearth_api::Page;
use hearth_service::shape::{Member, query};
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::{on, views};
use crate::access::Access;
use crate::config::Context;
use crate::shapes::{MAX_RESULTS, NEXT_TOKEN, NON_BLANK};

const SHAPE: &[Member] = &[MAX_RESULTS, NEXT_TOKEN, query("nameFilter", &NON_BLANK)];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "ListMicrovmImages",
    Effect::Read,
    on(Verb::Get, "/2025-09-09/microvm-images"),
    SHAPE,
    Access::Everything(|context, call, ()| Box::pin(run(context, call))),
);

async fn run(context: &Context, call: Call) -> Outcome {
    let page = context.page(&call)?;
    let (account, after) = (&call.caller().account, page.after.as_deref());
    let mut records = context.services.store.images(account, after, page.limit + 1).await?;
    let next_token = page.cut(&mut records, |record| record.arn.name.to_string());
    let mut items: Vec<_> = records.iter().map(views::image_summary).collect();
    if let Some(filter) = call.input().get("nameFilter") {
        items.retain(|image| image.name.as_str().contains(filter));
    }
    Ok(Answer::json(&Page { items, next_token }))
}
