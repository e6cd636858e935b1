//! UpdateMicrovmImageVersion: whether a version may be launched. MicroVMs that run from it are not
//! touched.

use hearth_api::{ImageArn, ImageVersion, UpdateMicrovmImageVersionRequest};
use hearth_service::shape::{Member, Shape, required};
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::{on, views};
use crate::access::{Access, actor};
use crate::config::Context;
use crate::shapes::{IMAGE, VERSION};

const SHAPE: &[Member] = &[IMAGE, VERSION, required("status", &Shape::Enumeration(&["ACTIVE", "INACTIVE"]))];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "UpdateMicrovmImageVersion",
    Effect::Write,
    on(Verb::Patch, "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}"),
    SHAPE,
    Access::Version(|context, call, named| Box::pin(run(context, call, named))),
);

async fn run(context: &Context, call: Call, (arn, version): (ImageArn, ImageVersion)) -> Outcome {
    let request: UpdateMicrovmImageVersionRequest = call.read()?;
    let builder = &context.services.image_builder;
    let changed = builder.set_version_status(&arn, version, request.status, Some(actor(&call))).await?;
    Ok(Answer::json(&views::version(changed)))
}
