//! GetMicrovm.

use std::sync::Arc;

use axum::extract::State;

use super::views;
use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::Context;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    let record = context.path_microvm(&call).await?;
    Ok(Answer::ok(&views::microvm(&context, &record)))
}
