//! An operation as a row of a table, and the context that the rows of an API share.

use std::fmt;

use axum::body::Body;
use axum::routing::MethodFilter;
use bytes::Bytes;
use futures::future::BoxFuture;
use hearth_api::ErrorKind;
use hearth_identity::{Caller, Identities};
use serde::Serialize;
use serde_json::Value;

use crate::call::{Asked, Call};
use crate::error::{Code, Error};
use crate::shape::Member;
use crate::throttle::Throttle;
use crate::xml::Xml;

/// A row of an API's table.
#[derive(Debug, Clone, Copy)]
pub struct Operation<A: Api> {
    /// Name in the service's model.
    pub name: &'static str,
    /// IAM action without its prefix; the name, unless said otherwise.
    pub action: &'static str,
    /// How requests for it look.
    pub protocol: Protocol,
    /// Shape of its input.
    pub members: &'static [Member],
    /// Whether it changes anything.
    pub effect: Effect,
    /// Name of the rate in [`Throttle`] that it counts against.
    pub rate: Option<&'static str>,
    /// What must hold beside the shape before anybody is asked whether the caller may.
    pub rule: Option<Rule<A>>,
    /// What it is authorised on, and what it does with that.
    pub access: A::Access,
}

/// What must hold of a request beside the shape of its members.
pub type Rule<A> = fn(&A, &Asked) -> Result<(), Error>;

/// How a service spells an error: its kind, which may be another one there, and its body.
pub type Errors = fn(ErrorKind, &str) -> (ErrorKind, Value);

/// Whether an operation changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it is given up when the client hangs up.
    Read,
    /// Something: it runs to its end, whether or not the client waits for it.
    Write,
}

/// How requests for an operation look.
#[derive(Debug, Clone, Copy)]
pub enum Protocol {
    /// Method and path name it (Smithy `restJson1`).
    RestJson(Http),
    /// The header `X-Amz-Target` names it (Smithy `awsJson1_1`).
    Json,
    /// The parameter `Action` names it (Smithy `awsQuery`).
    Query,
}

/// How an operation of `restJson1` is bound to HTTP.
#[derive(Debug, Clone, Copy)]
pub struct Http {
    /// Method.
    pub verb: Verb,
    /// Path with its members in braces, as `axum` has them.
    pub path: &'static str,
    /// Status of success.
    pub status: u16,
    /// How errors are spelled.
    pub errors: Errors,
}

/// A method of HTTP that operations have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    /// As requests have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    pub(crate) fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// What an operation answers on success.
#[derive(Debug)]
pub enum Answer {
    /// JSON text.
    Json(Bytes),
    /// Elements of a result.
    Xml(Xml),
    /// A result without members.
    Nothing,
    /// Messages as they come, with their content type.
    Stream(&'static str, Body),
}

impl Answer {
    /// JSON of `output`.
    pub fn json(output: &impl Serialize) -> Self {
        Self::Json(to_json(output).into())
    }

    /// JSON text that was kept.
    pub fn text(text: impl Into<Bytes>) -> Self {
        Self::Json(text.into())
    }

    /// The JSON text, if there is a result in JSON.
    pub(crate) fn into_text(self) -> Option<Bytes> {
        match self {
            Self::Json(text) => Some(text),
            Self::Xml(_) | Self::Nothing | Self::Stream(..) => None,
        }
    }
}

/// JSON text of an answer.
///
/// # Panics
/// When a map of `output` has keys that are no strings.
pub fn to_json(output: &impl Serialize) -> String {
    serde_json::to_string(output).expect("invariant: answers have string keys only")
}

/// What an operation comes to.
pub type Outcome = Result<Answer, Error>;

/// The function of an operation, given what it was authorised on.
pub type Run<A, T> = for<'a> fn(&'a A, Call, T) -> BoxFuture<'a, Outcome>;

/// The context of an API's operations: what the pipeline asks of it.
pub trait Api: fmt::Debug + Send + Sync + Sized + 'static {
    /// What an operation is authorised on together with its function, so that a function gets what
    /// was authorised and nothing else.
    type Access: fmt::Debug + Copy + Send + Sync + 'static;
    /// Name that requests are signed for, which is also the prefix of its IAM actions.
    const SIGNING_NAME: &'static str;
    /// Name of the service in sentences.
    const TITLE: &'static str;
    /// Error of requests that do not fit the shape of their operation.
    const INVALID: Code;

    /// The table.
    fn operations() -> impl Iterator<Item = &'static Operation<Self>>;

    /// Longest body in bytes; the operation may be unknown still.
    fn maximum_body_bytes(operation: Option<&'static Operation<Self>>) -> usize;

    /// Who calls, and what they may do.
    fn identities(&self) -> &Identities;

    /// Rates of operations, if there are any.
    fn throttle(&self) -> Option<&Throttle> {
        None
    }

    /// Refuses callers that no policy lets call this operation.
    ///
    /// # Errors
    /// The refusal.
    fn admit(_: &'static Operation<Self>, _: &Caller) -> Result<(), Error> {
        Ok(())
    }

    /// Finds out what the request is about, asks whether the caller may, and runs the operation
    /// with the permit.
    fn enter(
        &self,
        operation: &'static Operation<Self>,
        asked: Asked,
    ) -> impl Future<Output = Outcome> + Send;

    /// The operation of this name.
    fn operation(name: &str) -> Option<&'static Operation<Self>> {
        Self::operations().find(|operation| operation.name == name)
    }
}

impl<A: Api> Operation<A> {
    /// An operation without a rate or rule whose action has its name.
    pub const fn new(
        name: &'static str,
        effect: Effect,
        protocol: Protocol,
        members: &'static [Member],
        access: A::Access,
    ) -> Self {
        Self { name, action: name, protocol, members, effect, rate: None, rule: None, access }
    }

    /// Authorised as another action.
    #[must_use]
    pub const fn as_action(mut self, action: &'static str) -> Self {
        self.action = action;
        self
    }

    /// Counts against this rate.
    #[must_use]
    pub const fn rated(mut self, rate: &'static str) -> Self {
        self.rate = Some(rate);
        self
    }

    /// With a rule beside its shape.
    #[must_use]
    pub const fn with_rule(mut self, rule: Rule<A>) -> Self {
        self.rule = Some(rule);
        self
    }
}
