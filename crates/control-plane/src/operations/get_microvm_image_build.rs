//! GetMicrovmImageBuild.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::{BuildId, Error, GetMicrovmImageBuildResponse};

use super::views;
use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::{Context, store_failed};
use crate::shapes::GET_MICROVM_IMAGE_BUILD;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    call.check(&GET_MICROVM_IMAGE_BUILD)?;
    let (arn, version) = context.path_version(&call, "GetMicrovmImageBuild").await?;
    let id = BuildId::from_stored(call.path("buildId"));
    let record =
        context.services.store.build(&arn, version, &id).await.map_err(|error| store_failed(&error))?;
    let record = record.ok_or_else(|| {
        Error::not_found(format!(
            "MicroVMImage build not found for MicroVMImage: {arn}, Version: {version}, Build: {id}"
        ))
    })?;
    let snapshot_build = record.snapshot;
    Ok(Answer::ok(&GetMicrovmImageBuildResponse { summary: views::build_summary(record), snapshot_build }))
}
