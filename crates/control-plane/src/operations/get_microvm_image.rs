//! GetMicrovmImage.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::{Error, GetMicrovmImageResponse};

use super::views;
use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::{Context, store_failed};
use crate::shapes::IMAGE_ONLY;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    call.check(&IMAGE_ONLY)?;
    let arn = context.path_image(&call, "GetMicrovmImage").await?;
    let record = context.services.store.image(&arn).await.map_err(|error| store_failed(&error))?;
    let record = record.ok_or_else(|| Error::image_not_found(&arn))?;
    Ok(Answer::ok(&GetMicrovmImageResponse {
        summary: views::image_summary(&record),
        updated_at: record.updated_at,
        tags: record.tags,
    }))
}
