//! UpdateMicrovmImageVersion: whether a version may be launched. MicroVMs that run from it are not
//! touched.

use hearth_api::{ImageArn, ImageVersion, Timestamp, UpdateMicrovmImageVersionRequest};
use hearth_image_builder::refusal;
use hearth_service::shape::{Member, Shape, required};
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::{on, views};
use crate::access::Access;
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
    let store = &context.services.store;
    let change = store.set_version_status(&arn, version, request.status, Timestamp::now()).await?;
    let not_found = || hearth_api::Error::version_not_found(&arn, version);
    refusal(change, not_found)?;
    let record = store.image_version(&arn, version).await?;
    Ok(Answer::json(&views::version(record.ok_or_else(not_found)?)))
}
