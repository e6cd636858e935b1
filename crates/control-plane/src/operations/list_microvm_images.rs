//! ListMicrovmImages. As on the service, `maxResults` counts before `nameFilter` does, so a page
//! can be short or empty and still have a successor.

use std::sync::Arc;

use axum::extract::State;

use super::views;
use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::{Context, store_failed};
use crate::page::PageRequest;
use crate::shapes::LIST_MICROVM_IMAGES;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    call.check(&LIST_MICROVM_IMAGES)?;
    context.authorize(&call, "ListMicrovmImages")?;
    let request = PageRequest::of(&context, &call)?;
    let records = context
        .services
        .store
        .images(&call.caller.account, request.after.as_deref(), request.limit + 1)
        .await
        .map_err(|error| store_failed(&error))?;
    let mut page =
        request.page(records, |record| record.arn.name.to_string(), |record| views::image_summary(&record));
    if let Some(filter) = call.query("nameFilter") {
        page.items.retain(|image| image.name.as_str().contains(filter));
    }
    Ok(Answer::ok(&page))
}
