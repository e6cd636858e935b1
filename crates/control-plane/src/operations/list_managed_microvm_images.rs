//! ListManagedMicrovmImages.

use std::sync::Arc;

use axum::extract::State;

use super::managed_images;
use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::Context;
use crate::page::PageRequest;
use crate::shapes::LIST;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    call.check(&LIST)?;
    context.authorize(&call, "ListManagedMicrovmImages")?;
    let request = PageRequest::of(&context, &call)?;
    let images = vec![managed_images::summary(&context.config.region)];
    Ok(Answer::ok(&request.slice(images, |image| image.image_arn.clone(), |image| image)))
}
