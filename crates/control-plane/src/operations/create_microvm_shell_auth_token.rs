//! CreateMicrovmShellAuthToken: for microVMs that were launched with SHELL_INGRESS.

use std::future::ready;

use hearth_api::{CreateMicrovmShellAuthTokenRequest, PortSpecification, managed_connector_arn};
use hearth_auth::TokenKind;
use hearth_records::MicrovmRecord;
use hearth_service::shape::{Member, required};
use hearth_service::{Call, Effect, Error, Operation, Outcome, Verb};

use super::create_microvm_auth_token::answer;
use super::on;
use crate::access::Access;
use crate::config::Context;
use crate::rates;
use crate::shapes::{AT_LEAST_ONE, MICROVM};

/// Port that stands for the terminal in a token.
const SHELL_PORT: u16 = 8022;

const SHAPE: &[Member] = &[MICROVM, required("expirationInMinutes", &AT_LEAST_ONE)];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "CreateMicrovmShellAuthToken",
    Effect::Write,
    on(Verb::Post, "/2025-09-09/microvms/{microvmIdentifier}/shell-auth-token"),
    SHAPE,
    Access::Microvm(|context, call, record| Box::pin(ready(run(context, &call, record)))),
)
.rated(rates::SHELL_AUTH_TOKEN);

fn run(context: &Context, call: &Call, record: MicrovmRecord) -> Outcome {
    let request: CreateMicrovmShellAuthTokenRequest = call.read()?;
    let connectors = &record.settings.ingress_network_connectors;
    let has = |name| connectors.contains(&managed_connector_arn(&context.config.region, name));
    // RunMicrovm accepts the combination, as on the service, which refuses it here.
    if has("ALL_INGRESS") && connectors.len() > 1 {
        let message = "ALL_INGRESS cannot be combined with other ingress network connectors; use HTTP_INGRESS and/or \
                       SHELL_INGRESS instead";
        return Err(Error::validation(message));
    }
    if !has("SHELL_INGRESS") {
        let message =
            "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.";
        return Err(Error::validation(message));
    }
    let ports = vec![PortSpecification::Port(SHELL_PORT)];
    answer(context, record, request.expiration_in_minutes, ports, TokenKind::Shell)
}
