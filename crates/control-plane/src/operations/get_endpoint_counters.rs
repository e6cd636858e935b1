//! What has gone through a microVM's endpoint: an extension, which AWS does not have. It is
//! authorised as GetMicrovm.

use std::future::ready;

use hearth_records::MicrovmRecord;
use hearth_service::{Answer, Effect, Operation, Verb};

use super::on;
use crate::access::Access;
use crate::config::Context;
use crate::rates;
use crate::shapes::MICROVM_ONLY;

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "GetEndpointCounters",
    Effect::Read,
    on(Verb::Get, "/hearth/2026-11-22/microvms/{microvmIdentifier}/endpoint-counters"),
    MICROVM_ONLY,
    Access::Microvm(|context, _, record| Box::pin(ready(Ok(run(context, &record))))),
)
.as_action("GetMicrovm")
.rated(rates::GET);

fn run(context: &Context, record: &MicrovmRecord) -> Answer {
    Answer::json(&context.services.endpoints.counters(&record.id))
}
