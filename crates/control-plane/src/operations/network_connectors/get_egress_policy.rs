//! GetEgressPolicy.

use std::future::ready;

use hearth_service::{Answer, Effect, Operation, Verb};

use super::answering;
use super::egress_policies::{POLICY, told};
use super::shapes::IDENTIFIER_ONLY;
use crate::access::Access;
use crate::config::Context;
use crate::named_connectors::Which;

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "GetEgressPolicy",
    Effect::Read,
    answering(200, Verb::Get, POLICY),
    IDENTIFIER_ONLY,
    Access::Connector(Which::Whole, |_, _, named| {
        Box::pin(ready(told(&named.record, named.now).map(|policy| Answer::json(&policy))))
    }),
)
.as_action("GetNetworkConnector");
