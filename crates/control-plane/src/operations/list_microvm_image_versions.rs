//! ListMicrovmImageVersions, newest first. As on the service, the list leaves out the
//! environment variables.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::Error;

use super::views;
use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::{Context, store_failed};
use crate::page::PageRequest;
use crate::shapes::LIST_OF_IMAGE;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    call.check(&LIST_OF_IMAGE)?;
    let request = PageRequest::of(&context, &call)?;
    let arn = context.path_image(&call, "ListMicrovmImageVersions").await?;
    let records = context.services.store.image_versions(&arn).await.map_err(|error| store_failed(&error))?;
    if records.is_empty() {
        return Err(Error::image_not_found(&arn).into());
    }
    let page = request.slice(
        records,
        |record| record.version.to_string(),
        |mut record| {
            record.configuration.environment_variables = None;
            views::version(record)
        },
    );
    Ok(Answer::ok(&page))
}
