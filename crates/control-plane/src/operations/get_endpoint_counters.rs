//! What has gone through a microVM's endpoint: an extension, which AWS does not have. It is
//! authorised as GetMicrovm.

use std::sync::Arc;

use axum::extract::State;

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::Context;
use crate::shapes::MICROVM_ONLY;
use crate::throttle::Throttled;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    context.throttle.admit(&call.caller.account, Throttled::Get).await?;
    call.check(&MICROVM_ONLY)?;
    let record = context.path_microvm(&call, "GetMicrovm").await?;
    Ok(Answer::ok(&context.services.endpoints.counters(&record.id)))
}
