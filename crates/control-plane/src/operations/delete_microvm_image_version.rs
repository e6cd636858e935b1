//! DeleteMicrovmImageVersion.

use hearth_api::{DeleteMicrovmImageVersionResponse, ImageArn, ImageVersion, ImageVersionState};
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::on;
use crate::access::{Access, actor};
use crate::config::Context;
use crate::shapes::VERSION_ONLY;

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "DeleteMicrovmImageVersion",
    Effect::Write,
    on(Verb::Delete, "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}"),
    VERSION_ONLY,
    Access::Version(|context, call, named| Box::pin(run(context, call, named))),
);

async fn run(context: &Context, call: Call, (arn, version): (ImageArn, ImageVersion)) -> Outcome {
    context.services.image_builder.delete_version(&arn, version, Some(actor(&call))).await?;
    Ok(Answer::json(&DeleteMicrovmImageVersionResponse {
        image_identifier: arn,
        image_version: version,
        state: ImageVersionState::Deleting,
    }))
}
