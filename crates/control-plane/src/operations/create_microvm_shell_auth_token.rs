//! CreateMicrovmShellAuthToken: for microVMs that were launched with SHELL_INGRESS.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::{CreateMicrovmShellAuthTokenRequest, Error, PortSpecification, managed_connector_arn};
use hearth_auth::TokenKind;

use super::create_microvm_auth_token::answer;
use crate::answer::Outcome;
use crate::call::Call;
use crate::config::Context;
use crate::shapes::CREATE_MICROVM_SHELL_AUTH_TOKEN;
use crate::throttle::Throttled;

/// Port that stands for the terminal in a token.
const SHELL_PORT: u16 = 8022;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    context.throttle.admit(&call.caller.account, Throttled::ShellAuthToken).await?;
    let request: CreateMicrovmShellAuthTokenRequest = call.input(&CREATE_MICROVM_SHELL_AUTH_TOKEN)?;
    let record = context.path_microvm(&call, "CreateMicrovmShellAuthToken").await?;
    let connectors = &record.settings.ingress_network_connectors;
    let has = |name| connectors.contains(&managed_connector_arn(&context.config.region, name));
    // RunMicrovm accepts the combination, as on the service, which refuses it here.
    if has("ALL_INGRESS") && connectors.len() > 1 {
        let message = "ALL_INGRESS cannot be combined with other ingress network connectors; use HTTP_INGRESS and/or \
                       SHELL_INGRESS instead";
        return Err(Error::validation(message).into());
    }
    if !has("SHELL_INGRESS") {
        let message =
            "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.";
        return Err(Error::validation(message).into());
    }
    let ports = vec![PortSpecification::Port(SHELL_PORT)];
    answer(&context, record, request.expiration_in_minutes, ports, TokenKind::Shell)
}
