//! SuspendMicrovm; one that is suspended already stays so.

use std::sync::Arc;

use axum::extract::State;

use super::refusals::translate;
use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::Context;
use crate::shapes::MICROVM_ONLY;
use crate::throttle::Throttled;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    context.throttle.admit(&call.caller.account, Throttled::Suspend).await?;
    call.check(&MICROVM_ONLY)?;
    let id = context.path_microvm(&call, "SuspendMicrovm").await?.id;
    context.services.registry.suspend(&id).await.map_err(|refusal| translate(refusal, &id))?;
    Ok(Answer::empty())
}
