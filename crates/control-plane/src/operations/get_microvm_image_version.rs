//! GetMicrovmImageVersion.

use hearth_api::{ImageArn, ImageVersion};
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::{on, views};
use crate::access::Access;
use crate::config::Context;
use crate::errors::version_not_found;
use crate::shapes::VERSION_ONLY;

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "GetMicrovmImageVersion",
    Effect::Read,
    on(Verb::Get, "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}"),
    VERSION_ONLY,
    Access::Version(|context, call, named| Box::pin(run(context, call, named))),
);

async fn run(context: &Context, _: Call, (arn, version): (ImageArn, ImageVersion)) -> Outcome {
    let record = context.services.store.image_version(&arn, version).await?;
    Ok(Answer::json(&views::version(record.ok_or_else(|| version_not_found(&arn, version))?)))
}
