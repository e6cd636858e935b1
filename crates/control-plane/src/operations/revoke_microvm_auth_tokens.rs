//! Revoking all tokens of a microVM: an extension, which AWS does not have. A caller that may make
//! tokens may revoke them: it is authorised as CreateMicrovmAuthToken.

use hearth_api::RevokedAuthTokens;
use hearth_records::MicrovmRecord;
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::on;
use crate::access::{Access, actor};
use crate::arns::microvm_not_found;
use crate::config::Context;
use crate::rates;
use crate::shapes::MICROVM_ONLY;

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "RevokeMicrovmAuthTokens",
    Effect::Write,
    on(Verb::Delete, "/hearth/2026-11-22/microvms/{microvmIdentifier}/auth-tokens"),
    MICROVM_ONLY,
    Access::Microvm(|context, call, record| Box::pin(run(context, call, record))),
)
.as_action("CreateMicrovmAuthToken")
.rated(rates::AUTH_TOKEN);

async fn run(context: &Context, call: Call, MicrovmRecord { id, .. }: MicrovmRecord) -> Outcome {
    let services = &context.services;
    let revoked = services.store.revoke_tokens(&id, &actor(&call)).await?;
    let revocations = revoked.ok_or_else(|| microvm_not_found(&id))?;
    // The record says so already, so tokens that are made meanwhile are good.
    services.token_keys.revoke(&id, revocations, jiff::Timestamp::now().as_second());
    tracing::info!(microvm = %id, revocations, "the microVM's tokens are revoked");
    Ok(Answer::json(&RevokedAuthTokens { microvm_id: id, revocations }))
}
