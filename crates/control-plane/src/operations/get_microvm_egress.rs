//! What a microVM has tried to reach, and what its egress policy has decided: an extension, which
//! AWS does not have. It is authorised as GetMicrovm.

use std::future::ready;

use hearth_api::EgressDecisions;
use hearth_records::MicrovmRecord;
use hearth_service::{Answer, Effect, Operation, Verb};

use super::on;
use crate::access::Access;
use crate::config::Context;
use crate::rates;
use crate::shapes::MICROVM_ONLY;

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "GetMicrovmEgress",
    Effect::Read,
    on(Verb::Get, "/hearth/2026-11-22/microvms/{microvmIdentifier}/egress"),
    MICROVM_ONLY,
    Access::Microvm(|context, _, record| Box::pin(ready(Ok(run(context, &record))))),
)
.as_action("GetMicrovm")
.rated(rates::GET);

/// Without a policy, and after the end of the microVM, there is nothing.
fn run(context: &Context, record: &MicrovmRecord) -> Answer {
    let decisions = context.services.node.egress_decisions(&record.id);
    Answer::json(&decisions.unwrap_or(EgressDecisions { decisions: Vec::new(), lost: 0 }))
}
