//! CreateMicrovmAuthToken. A token can be made in every state but the last: it outlives suspension.

use std::collections::BTreeMap;
use std::future::ready;

use hearth_api::{
    CreateMicrovmAuthTokenRequest, CreateMicrovmAuthTokenResponse, MicrovmState, PortSpecification,
};
use hearth_auth::{Claims, TokenError, TokenKind};
use hearth_records::MicrovmRecord;
use hearth_service::shape::{EMPTY, Member, Shape, optional, required};
use hearth_service::{Answer, Asked, Call, Effect, Error, Operation, Outcome, Verb};

use super::on;
use crate::access::Access;
use crate::config::Context;
use crate::rates;
use crate::shapes::{AT_LEAST_ONE, MICROVM, PORT};

const MAXIMUM_EXPIRATION_MINUTES: u32 = 60;
/// The header that the token is sent in.
const HEADER: &str = "X-aws-proxy-auth";

const SHAPE: &[Member] = &[
    MICROVM,
    required("expirationInMinutes", &AT_LEAST_ONE),
    required(
        "allowedPorts",
        &Shape::List(
            &Shape::Union(&[
                optional("port", &PORT),
                optional(
                    "range",
                    &Shape::Structure(&[required("startPort", &PORT), required("endPort", &PORT)]),
                ),
                optional("allPorts", &EMPTY),
            ]),
            1,
            usize::MAX,
        ),
    ),
];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "CreateMicrovmAuthToken",
    Effect::Write,
    on(Verb::Post, "/2025-09-09/microvms/{microvmIdentifier}/auth-token"),
    SHAPE,
    Access::Microvm(|context, call, record| Box::pin(ready(run(context, &call, record)))),
)
.rated(rates::AUTH_TOKEN)
.with_rule(check_ranges);

fn check_ranges(_: &Context, asked: &Asked) -> Result<(), Error> {
    let request: CreateMicrovmAuthTokenRequest = asked.read()?;
    for ports in &request.allowed_ports {
        if let PortSpecification::Range { start_port, end_port } = ports
            && start_port > end_port
        {
            let message = format!("The port range {start_port}-{end_port} ends before it starts.");
            return Err(Error::validation(message));
        }
    }
    Ok(())
}

fn run(context: &Context, call: &Call, record: MicrovmRecord) -> Outcome {
    let request: CreateMicrovmAuthTokenRequest = call.read()?;
    answer(context, record, request.expiration_in_minutes, request.allowed_ports, TokenKind::Http)
}

/// The answer with a new token for a microVM.
pub(super) fn answer(
    context: &Context,
    record: MicrovmRecord,
    minutes: u32,
    ports: Vec<PortSpecification>,
    kind: TokenKind,
) -> Outcome {
    if minutes > MAXIMUM_EXPIRATION_MINUTES {
        let message =
            format!("ExpirationMinutes {minutes} exceeded max allowed of {MAXIMUM_EXPIRATION_MINUTES}.");
        return Err(Error::validation(message));
    }
    if matches!(record.state, MicrovmState::Terminating | MicrovmState::Terminated) {
        return Err(Error::validation(format!("The MicroVM {} has been terminated.", record.id)));
    }
    let expires_at_seconds = jiff::Timestamp::now().as_second() + i64::from(minutes) * 60;
    let revocations = record.token_revocations;
    let claims = Claims { microvm: record.id, ports, expires_at_seconds, kind, revocations };
    let token = context.services.token_keys.issue(&claims).map_err(|error| match error {
        TokenError::TooManyPorts => Error::validation("The list of allowed ports is too long for one token."),
        other => Error::failed("a token could not be made", &other),
    })?;
    let auth_token = BTreeMap::from([(HEADER.to_owned(), token)]);
    Ok(Answer::json(&CreateMicrovmAuthTokenResponse { auth_token }))
}
