//! Revoking all tokens of a microVM: an extension, which AWS does not have. Who may make tokens may
//! revoke them: it is authorised as CreateMicrovmAuthToken.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::RevokedAuthTokens;

use crate::answer::{Answer, Outcome};
use crate::arns::microvm_not_found;
use crate::call::Call;
use crate::config::{Context, store_failed};
use crate::shapes::MICROVM_ONLY;
use crate::throttle::Throttled;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    context.throttle.admit(&call.caller.account, Throttled::AuthToken).await?;
    call.check(&MICROVM_ONLY)?;
    let id = context.path_microvm(&call, "CreateMicrovmAuthToken").await?.id;
    let services = &context.services;
    let revoked = services.store.revoke_tokens(&id).await.map_err(|error| store_failed(&error))?;
    let revocations = revoked.ok_or_else(|| microvm_not_found(&id))?;
    // The record says so already, so tokens that are made meanwhile are good.
    services.token_keys.revoke(&id, revocations, jiff::Timestamp::now().as_second());
    tracing::info!(microvm = %id, revocations, "the microVM's tokens are revoked");
    Ok(Answer::ok(&RevokedAuthTokens { microvm_id: id, revocations }))
}
