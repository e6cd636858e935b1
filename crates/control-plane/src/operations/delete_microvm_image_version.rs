//! DeleteMicrovmImageVersion.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::{DeleteMicrovmImageVersionResponse, ImageVersionState};

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::Context;
use crate::shapes::VERSION_ONLY;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    call.check(&VERSION_ONLY)?;
    let (arn, version) = context.path_version(&call, "DeleteMicrovmImageVersion").await?;
    context.services.image_builder.delete_version(&arn, version).await?;
    Ok(Answer::ok(&DeleteMicrovmImageVersionResponse {
        image_identifier: arn,
        image_version: version,
        state: ImageVersionState::Deleting,
    }))
}
