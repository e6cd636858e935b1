//! CreateMicrovmAuthToken. A token can be made in every state but the last: it outlives suspension.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use hearth_api::{
    CreateMicrovmAuthTokenRequest, CreateMicrovmAuthTokenResponse, Error, MicrovmState, PortSpecification,
};
use hearth_auth::{Claims, TokenError, TokenKind};
use hearth_records::MicrovmRecord;

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::Context;
use crate::shapes::CREATE_MICROVM_AUTH_TOKEN;
use crate::throttle::Throttled;

const MAXIMUM_EXPIRATION_MINUTES: u32 = 60;
/// The header that the token is sent in.
const HEADER: &str = "X-aws-proxy-auth";

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    context.throttle.admit(&call.caller.account, Throttled::AuthToken).await?;
    let request: CreateMicrovmAuthTokenRequest = call.input(&CREATE_MICROVM_AUTH_TOKEN)?;
    for ports in &request.allowed_ports {
        if let PortSpecification::Range { start_port, end_port } = ports
            && start_port > end_port
        {
            let message = format!("The port range {start_port}-{end_port} ends before it starts.");
            return Err(Error::validation(message).into());
        }
    }
    let record = context.path_microvm(&call, "CreateMicrovmAuthToken").await?;
    answer(&context, record, request.expiration_in_minutes, request.allowed_ports, TokenKind::Http)
}

/// The answer with a new token for a microVM.
pub(crate) fn answer(
    context: &Context,
    record: MicrovmRecord,
    minutes: u32,
    ports: Vec<PortSpecification>,
    kind: TokenKind,
) -> Outcome {
    if minutes > MAXIMUM_EXPIRATION_MINUTES {
        let message =
            format!("ExpirationMinutes {minutes} exceeded max allowed of {MAXIMUM_EXPIRATION_MINUTES}.");
        return Err(Error::validation(message).into());
    }
    if matches!(record.state, MicrovmState::Terminating | MicrovmState::Terminated) {
        return Err(Error::validation(format!("The MicroVM {} has been terminated.", record.id)).into());
    }
    let expires_at_seconds = jiff::Timestamp::now().as_second() + i64::from(minutes) * 60;
    let revocations = record.token_revocations;
    let claims = Claims { microvm: record.id, ports, expires_at_seconds, kind, revocations };
    let token = context.services.token_keys.issue(&claims).map_err(|error| match error {
        TokenError::TooManyPorts => Error::validation("The list of allowed ports is too long for one token."),
        other => {
            tracing::error!(error = &other as &dyn std::error::Error, "a token could not be made");
            Error::internal()
        }
    })?;
    let auth_token = BTreeMap::from([(HEADER.to_owned(), token)]);
    Ok(Answer::ok(&CreateMicrovmAuthTokenResponse { auth_token }))
}
