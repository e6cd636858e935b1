//! ListManagedMicrovmImageVersions.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::{Error, managed_base_image_arn};

use super::managed_images;
use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::Context;
use crate::page::PageRequest;
use crate::shapes::LIST_OF_IMAGE;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    call.check(&LIST_OF_IMAGE)?;
    let request = PageRequest::of(&context, &call)?;
    let arn = context.path_image(&call, "ListManagedMicrovmImageVersions").await?;
    let region = &context.config.region;
    if arn.to_string() != managed_base_image_arn(region) {
        return Err(Error::image_not_found(&arn).into());
    }
    let versions = managed_images::versions(region);
    Ok(Answer::ok(&request.slice(versions, |version| version.image_version.clone(), |version| version)))
}
