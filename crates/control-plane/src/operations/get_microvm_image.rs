//! GetMicrovmImage.

use hearth_api::{GetMicrovmImageResponse, ImageArn};
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::{on, views};
use crate::access::Access;
use crate::config::Context;
use crate::errors::image_not_found;
use crate::shapes::IMAGE_ONLY;

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "GetMicrovmImage",
    Effect::Read,
    on(Verb::Get, "/2025-09-09/microvm-images/{imageIdentifier}"),
    IMAGE_ONLY,
    Access::Image(|context, call, arn| Box::pin(run(context, call, arn))),
);

async fn run(context: &Context, _: Call, arn: ImageArn) -> Outcome {
    let record = context.services.store.image(&arn).await?;
    let record = record.ok_or_else(|| image_not_found(&arn))?;
    Ok(Answer::json(&GetMicrovmImageResponse {
        summary: views::image_summary(&record),
        updated_at: record.updated_at,
        tags: record.tags,
    }))
}
