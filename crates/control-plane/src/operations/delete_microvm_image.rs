//! DeleteMicrovmImage.

use hearth_api::{DeleteMicrovmImageResponse, ImageArn, ImageState};
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::on;
use crate::access::{Access, actor};
use crate::config::Context;
use crate::shapes::IMAGE_ONLY;

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "DeleteMicrovmImage",
    Effect::Write,
    on(Verb::Delete, "/2025-09-09/microvm-images/{imageIdentifier}"),
    IMAGE_ONLY,
    Access::Image(|context, call, arn| Box::pin(run(context, call, arn))),
);

async fn run(context: &Context, call: Call, arn: ImageArn) -> Outcome {
    context.services.image_builder.delete(&arn, Some(actor(&call))).await?;
    Ok(Answer::json(&DeleteMicrovmImageResponse { image_identifier: arn, state: ImageState::Deleting }))
}
