//! GetMicrovm.

use std::future::ready;

use hearth_records::MicrovmRecord;
use hearth_service::{Answer, Effect, Operation, Verb};

use super::{on, views};
use crate::access::Access;
use crate::config::Context;
use crate::rates;
use crate::shapes::MICROVM_ONLY;

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "GetMicrovm",
    Effect::Read,
    on(Verb::Get, "/2025-09-09/microvms/{microvmIdentifier}"),
    MICROVM_ONLY,
    Access::Microvm(|context, _, record| Box::pin(ready(Ok(run(context, &record))))),
)
.rated(rates::GET);

fn run(context: &Context, record: &MicrovmRecord) -> Answer {
    Answer::json(&views::microvm(context, record))
}
