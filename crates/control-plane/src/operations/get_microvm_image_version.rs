//! GetMicrovmImageVersion.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::Error;

use super::views;
use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::{Context, store_failed};
use crate::shapes::VERSION_ONLY;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    call.check(&VERSION_ONLY)?;
    let (arn, version) = context.path_version(&call, "GetMicrovmImageVersion").await?;
    let record =
        context.services.store.image_version(&arn, version).await.map_err(|error| store_failed(&error))?;
    Ok(Answer::ok(&views::version(record.ok_or_else(|| Error::version_not_found(&arn, version))?)))
}
