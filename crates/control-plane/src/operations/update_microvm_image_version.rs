//! UpdateMicrovmImageVersion: whether a version may be launched. MicroVMs that run
//! from it are not touched.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::{Error, Timestamp, UpdateMicrovmImageVersionRequest};
use hearth_image_builder::refusal;

use super::views;
use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::{Context, store_failed};
use crate::shapes::UPDATE_MICROVM_IMAGE_VERSION;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    let request: UpdateMicrovmImageVersionRequest = call.input(&UPDATE_MICROVM_IMAGE_VERSION)?;
    let (arn, version) = context.path_version(&call, "UpdateMicrovmImageVersion").await?;
    let store = &context.services.store;
    let change = store.set_version_status(&arn, version, request.status, Timestamp::now()).await;
    let not_found = || Error::version_not_found(&arn, version);
    refusal(change.map_err(|error| store_failed(&error))?, not_found)?;
    let record = store.image_version(&arn, version).await.map_err(|error| store_failed(&error))?;
    Ok(Answer::ok(&views::version(record.ok_or_else(not_found)?)))
}
