//! The report of an image version's snapshot: an extension, which AWS does not have. It is
//! authorised as GetMicrovmImageVersion.

use hearth_api::{ImageArn, ImageVersion};
use hearth_service::{Answer, Call, Effect, Error, Operation, Outcome, Verb};

use super::on;
use crate::access::Access;
use crate::config::Context;
use crate::errors::version_not_found;
use crate::shapes::VERSION_ONLY;

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "GetImageReport",
    Effect::Read,
    on(Verb::Get, "/hearth/2026-11-22/microvm-images/{imageIdentifier}/versions/{imageVersion}/report"),
    VERSION_ONLY,
    Access::Version(|context, call, named| Box::pin(run(context, call, named))),
)
.as_action("GetMicrovmImageVersion");

async fn run(context: &Context, _: Call, (arn, version): (ImageArn, ImageVersion)) -> Outcome {
    let services = &context.services;
    let record = services.store.image_version(&arn, version).await?;
    record.ok_or_else(|| version_not_found(&arn, version))?;
    let report = services.image_builder.stored_report(&arn, version).await;
    let report = report.map_err(|error| Error::failed("a report could not be read", &error))?;
    let report = report.ok_or_else(|| {
        Error::not_found(format!("There is no report for MicroVMImage: {arn}, Version: {version}"))
    })?;
    Ok(Answer::text(report))
}
