//! The report of an image version's snapshot: an extension, which AWS does not have. It is
//! authorised as GetMicrovmImageVersion.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::Error;
use http::StatusCode;

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::{Context, store_failed};
use crate::shapes::VERSION_ONLY;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    call.check(&VERSION_ONLY)?;
    let (arn, version) = context.path_version(&call, "GetMicrovmImageVersion").await?;
    let services = &context.services;
    let record = services.store.image_version(&arn, version).await.map_err(|error| store_failed(&error))?;
    record.ok_or_else(|| Error::version_not_found(&arn, version))?;
    let report = services.image_builder.stored_report(&arn, version).await.map_err(|error| {
        tracing::error!(%arn, %version, %error, "a report could not be read");
        Error::internal()
    })?;
    let report = report.ok_or_else(|| {
        Error::not_found(format!("There is no report for MicroVMImage: {arn}, Version: {version}"))
    })?;
    Ok(Answer::text(StatusCode::OK, report))
}
