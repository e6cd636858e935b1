//! DeleteMicrovmImage.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::{DeleteMicrovmImageResponse, ImageState};

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::Context;
use crate::shapes::IMAGE_ONLY;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    call.check(&IMAGE_ONLY)?;
    let arn = context.path_image(&call, "DeleteMicrovmImage").await?;
    context.services.image_builder.delete(&arn).await?;
    Ok(Answer::ok(&DeleteMicrovmImageResponse { image_identifier: arn, state: ImageState::Deleting }))
}
