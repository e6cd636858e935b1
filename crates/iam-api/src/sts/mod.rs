//! STS: who the caller is, and temporary credentials (API version 2011-06-15).
//!
//! Reading order: [`Sts`], `assume_role`, `session_token`.

mod assume_role;
mod identity;
mod session_token;

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use futures::future::BoxFuture;
use hearth_identity::{Caller, Identities, IdentityError, Session, SessionOf};
use hearth_service::query::QueryApi;
use hearth_service::shape::{Member, required};
use hearth_service::{Answer, Api, Asked, Call, Code, Effect, Error, Operation, Outcome, Protocol, Run, Xml};

use crate::errors::{ACCESS_DENIED, VALIDATION_ERROR};
use crate::iam::cannot_write;
use crate::texts::STS_ACCESS_KEY_ID;

/// STS.
#[derive(Debug)]
pub struct Sts {
    identities: Arc<Identities>,
}

impl Sts {
    /// Temporary credentials of these identities.
    pub fn new(identities: Arc<Identities>) -> Arc<Self> {
        Arc::new(Self { identities })
    }

    /// Answers a request.
    pub async fn answer(self: Arc<Self>, request: Request) -> Response {
        hearth_service::query::answer(self, request).await
    }
}

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum May {
    /// Everyone (STS API reference: "No permissions are required").
    Everyone,
    /// Whom policies allow the action on `*`.
    Allowed,
    /// Whom the role's trust policy allows it as well.
    Trusted,
}

/// Who may call an operation, with its function.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    may: May,
    run: Run<Sts, ()>,
}

impl Access {
    /// What policies have to allow the action on, for the documentation.
    pub fn resource(self) -> &'static str {
        match self.may {
            May::Everyone => "no permission needed",
            May::Allowed => "`*`",
            May::Trusted => "the role, which has to trust the caller",
        }
    }
}

const fn operation(
    name: &'static str,
    effect: Effect,
    members: &'static [Member],
    may: May,
    run: Run<Sts, ()>,
) -> Operation<Sts> {
    Operation::new(name, effect, Protocol::Query, members, Access { may, run })
}

static OPERATIONS: [Operation<Sts>; 4] = [
    operation("GetCallerIdentity", Effect::Read, &[], May::Everyone, |_, call, ()| {
        told(Ok(identity::caller(&call)))
    }),
    operation("GetSessionToken", Effect::Write, session_token::MEMBERS, May::Everyone, |sts, call, ()| {
        Box::pin(async move { session_token::get(sts, &call).await.map(Answer::Xml) })
    }),
    operation(
        "GetAccessKeyInfo",
        Effect::Read,
        &[required("AccessKeyId", &STS_ACCESS_KEY_ID)],
        May::Allowed,
        |sts, call, ()| told(identity::access_key(sts, &call)),
    ),
    operation("AssumeRole", Effect::Write, assume_role::MEMBERS, May::Trusted, |sts, call, ()| {
        Box::pin(async move { assume_role::assume(sts, &call).await.map(Answer::Xml) })
    }),
];

fn told<'a>(result: Result<Xml, Error>) -> BoxFuture<'a, Outcome> {
    Box::pin(std::future::ready(result.map(Answer::Xml)))
}

impl QueryApi for Sts {
    const VERSION: &'static str = "2011-06-15";
}

impl Api for Sts {
    type Access = Access;
    const SIGNING_NAME: &'static str = "sts";
    const TITLE: &'static str = "STS";
    const INVALID: Code = Code::Modelled(VALIDATION_ERROR);

    fn operations() -> impl Iterator<Item = &'static Operation<Self>> {
        OPERATIONS.iter()
    }

    fn maximum_body_bytes(_: Option<&'static Operation<Self>>) -> usize {
        1 << 20
    }

    fn identities(&self) -> &Identities {
        &self.identities
    }

    fn admit(operation: &'static Operation<Self>, caller: &Caller) -> Result<(), Error> {
        refuse_session_tokens(operation.name, caller)
    }

    async fn enter(&self, operation: &'static Operation<Self>, asked: Asked) -> Outcome {
        let permit = match operation.access.may {
            May::Everyone => asked.needs_no_permission(),
            May::Allowed => {
                let request = asked.caller().request(format!("sts:{}", operation.action), "*");
                asked.ask(&self.identities, &request)?
            }
            May::Trusted => assume_role::authorize(self, &asked)?,
        };
        (operation.access.run)(self, asked.permitted(permit)?, ()).await
    }
}

/// With credentials of GetSessionToken only two of the actions can be called (STS API
/// reference, GetSessionToken).
fn refuse_session_tokens(action: &str, caller: &Caller) -> Result<(), Error> {
    let of = caller.session.as_ref().map(|session| &session.of);
    let from_session_token = matches!(of, Some(SessionOf::Root | SessionOf::User { .. }));
    if from_session_token && !matches!(action, "GetCallerIdentity" | "AssumeRole") {
        let message = format!("Cannot call {action} with session credentials");
        return Err(Error::new(ACCESS_DENIED, message));
    }
    Ok(())
}

impl Sts {
    /// Puts fresh credentials in force, and adds them to the answer.
    async fn start(&self, call: &Call, session: Session, result: Xml) -> Result<Xml, Error> {
        let credentials = Xml::default()
            .text("AccessKeyId", &session.access_key)
            .text("SecretAccessKey", &session.secret)
            .text("SessionToken", &session.token)
            .time("Expiration", session.expires_at);
        self.identities.add_session(session.made_by(call.caller())).await.map_err(|error| match error {
            IdentityError::Gone => Error::new(ACCESS_DENIED, "The user or role was deleted just now."),
            chained @ IdentityError::TooManyOrigins => {
                Error::new(VALIDATION_ERROR, format!("Role chaining: {chained}."))
            }
            other => cannot_write(other),
        })?;
        Ok(result.element("Credentials", credentials))
    }
}

/// There are no MFA devices.
fn refuse_mfa(call: &Call) -> Result<(), Error> {
    if !call.input().has("SerialNumber") && !call.input().has("TokenCode") {
        return Ok(());
    }
    let message = "MultiFactorAuthentication failed: there are no MFA devices here.";
    Err(Error::new(ACCESS_DENIED, message))
}
