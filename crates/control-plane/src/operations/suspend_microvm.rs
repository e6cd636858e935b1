//! SuspendMicrovm; one that is suspended already stays so.

use hearth_node::Request;
use hearth_records::MicrovmRecord;
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::on;
use super::refusals::translate;
use crate::access::{Access, actor};
use crate::config::Context;
use crate::rates;
use crate::shapes::MICROVM_ONLY;

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "SuspendMicrovm",
    Effect::Write,
    on(Verb::Post, "/2025-09-09/microvms/{microvmIdentifier}/suspend"),
    MICROVM_ONLY,
    Access::Microvm(|context, call, record| Box::pin(run(context, call, record))),
)
.rated(rates::SUSPEND);

async fn run(context: &Context, call: Call, MicrovmRecord { id, .. }: MicrovmRecord) -> Outcome {
    let asked = context.services.node.clone().request(&id, Request::Suspend, Some(actor(&call))).await;
    asked.map_err(|refusal| translate(refusal, &id))?;
    Ok(Answer::Nothing)
}
