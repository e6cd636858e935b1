//! GetMicrovmImageBuild.

use hearth_api::{BuildId, GetMicrovmImageBuildResponse, ImageArn, ImageVersion};
use hearth_service::shape::{Member, path};
use hearth_service::{Answer, Call, Effect, Error, Operation, Outcome, Verb};

use super::{on, views};
use crate::access::Access;
use crate::config::Context;
use crate::shapes::{IMAGE, NON_BLANK, VERSION};

const SHAPE: &[Member] = &[IMAGE, VERSION, path("buildId", &NON_BLANK)];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "GetMicrovmImageBuild",
    Effect::Read,
    on(Verb::Get, "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}/builds/{buildId}"),
    SHAPE,
    Access::Version(|context, call, named| Box::pin(run(context, call, named))),
);

async fn run(context: &Context, call: Call, (arn, version): (ImageArn, ImageVersion)) -> Outcome {
    let id = BuildId::from_stored(call.input().required("buildId"));
    let record = context.services.store.build(&arn, version, &id).await?;
    let record = record.ok_or_else(|| {
        Error::not_found(format!(
            "MicroVMImage build not found for MicroVMImage: {arn}, Version: {version}, Build: {id}"
        ))
    })?;
    let snapshot_build = record.snapshot;
    Ok(Answer::json(&GetMicrovmImageBuildResponse { summary: views::build_summary(record), snapshot_build }))
}
