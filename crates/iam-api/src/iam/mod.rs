//! IAM: users, roles, managed policies and access keys of the caller's account (API
//! version 2010-05-08).
//!
//! Every operation is a row of a table: what it takes, what it is authorised on, and what it does.
//! Changes are authorised on the very state that they change.
//!
//! Reading order: [`Iam`], `authorize`, `entity`, then the files by what they are about.

mod access_keys;
mod account;
mod attachments;
mod authorize;
mod boundaries;
pub(crate) mod documents;
mod entity;
mod inline_policies;
mod page;
mod policies;
mod policy_versions;
mod roles;
mod tags;
mod users;
mod views;

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use hearth_identity::{Account, Caller, Identities, IdentityError, MAXIMUM_ACCOUNT_BYTES, SessionOf};
use hearth_service::pages::PageKey;
use hearth_service::query::QueryApi;
use hearth_service::shape::Member;
use hearth_service::{Answer, Api, Asked, Code, Effect, Error, Operation, Protocol, Xml};

use crate::errors::{INVALID_CLIENT_TOKEN_ID, LIMIT_EXCEEDED, VALIDATION_ERROR};

/// What an operation answers: its result, if it has one.
type Outcome = Result<Option<Xml>, Error>;

/// IAM.
#[derive(Debug)]
pub struct Iam {
    identities: Arc<Identities>,
    pub(crate) page_key: PageKey,
}

impl Iam {
    /// The API of these identities.
    pub fn new(identities: Arc<Identities>, page_key: PageKey) -> Arc<Self> {
        Arc::new(Self { identities, page_key })
    }

    /// Answers a request.
    pub async fn answer(self: Arc<Self>, request: Request) -> Response {
        hearth_service::query::answer(self, request).await
    }
}

/// What an operation is authorised on, and what it does.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    on: On,
    run: Run,
}

impl Access {
    /// What policies have to allow the action on, for the documentation.
    pub fn resource(self) -> &'static str {
        match self.on {
            On::Everything => "`*`",
            On::User | On::NewUser => "the user",
            On::MovedUser => "the user, before and after",
            On::Role | On::NewRole => "the role",
            On::Policy | On::NewPolicy => "the policy",
        }
    }
}

/// What an operation is authorised on (service authorization reference, "Actions, resources, and
/// condition keys for AWS Identity and Access Management").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    /// `*`.
    Everything,
    /// The user of `UserName`, else the caller.
    User,
    /// A user to be made with `Path` and `UserName`.
    NewUser,
    /// The user of `UserName`, and what it is to become with `NewPath` and `NewUserName`.
    MovedUser,
    /// The role of `RoleName`.
    Role,
    /// A role to be made with `Path` and `RoleName`.
    NewRole,
    /// `PolicyArn`.
    Policy,
    /// A policy to be made with `Path` and `PolicyName`.
    NewPolicy,
}

/// What an operation does.
#[derive(Debug, Clone, Copy)]
enum Run {
    Read(fn(&Account, &Call<'_>) -> Outcome),
    Change(fn(&mut Account, &Call<'_>) -> Outcome),
}

const fn operation(name: &'static str, on: On, members: &'static [Member], run: Run) -> Operation<Iam> {
    let effect = match run {
        Run::Read(_) => Effect::Read,
        Run::Change(_) => Effect::Write,
    };
    Operation::new(name, effect, Protocol::Query, members, Access { on, run })
}

/// A call that is authorised.
pub(crate) struct Call<'a> {
    pub(crate) api: &'a Iam,
    call: hearth_service::Call,
}

impl Deref for Call<'_> {
    type Target = hearth_service::Call;

    fn deref(&self) -> &Self::Target {
        &self.call
    }
}

impl QueryApi for Iam {
    const VERSION: &'static str = "2010-05-08";
}

impl Api for Iam {
    type Access = Access;
    const SIGNING_NAME: &'static str = "iam";
    const TITLE: &'static str = "IAM";
    const INVALID: Code = Code::Modelled(VALIDATION_ERROR);

    fn operations() -> impl Iterator<Item = &'static Operation<Self>> {
        [
            users::OPERATIONS,
            access_keys::OPERATIONS,
            roles::OPERATIONS,
            inline_policies::OPERATIONS,
            policies::OPERATIONS,
            policy_versions::OPERATIONS,
            attachments::OPERATIONS,
            boundaries::OPERATIONS,
            tags::OPERATIONS,
            account::OPERATIONS,
        ]
        .into_iter()
        .flatten()
    }

    fn maximum_body_bytes(_: Option<&'static Operation<Self>>) -> usize {
        1 << 20
    }

    fn identities(&self) -> &Identities {
        &self.identities
    }

    fn admit(_: &'static Operation<Self>, caller: &Caller) -> Result<(), Error> {
        refuse_session_tokens(caller)
    }

    async fn enter(&self, operation: &'static Operation<Self>, asked: Asked) -> hearth_service::Outcome {
        let gone =
            || Error::new(INVALID_CLIENT_TOKEN_ID, "The account of the access key is not here any more.");
        let id = asked.caller().account.clone();
        let result = match operation.access.run {
            Run::Read(run) => {
                let account = self.identities.account(&id).ok_or_else(gone)?;
                let permit = authorize::authorize(operation, &account, self, &asked)?;
                run(&account, &Call { api: self, call: asked.permitted(permit)? })?
            }
            Run::Change(run) => {
                let change = |account: &mut Account| -> Outcome {
                    let permit = authorize::authorize(operation, account, self, &asked)?;
                    let before = account.bytes();
                    let outcome = run(account, &Call { api: self, call: asked.permitted(permit)? })?;
                    refuse_growth(before, account.bytes())?;
                    Ok(outcome)
                };
                let changed = self.identities.change(&id, change).await;
                let changed = changed.map_err(cannot_write)?;
                changed.ok_or_else(gone)??
            }
        };
        Ok(result.map_or(Answer::Nothing, Answer::Xml))
    }
}

/// A failure of the directory of identities.
pub(crate) fn cannot_write(error: IdentityError) -> Error {
    match error {
        IdentityError::Store(error) => error.into(),
        other => Error::failed("cannot read or write identities", &other),
    }
}

/// Credentials of GetSessionToken cannot call IAM without MFA, which there is not (STS API
/// reference, GetSessionToken).
fn refuse_session_tokens(caller: &Caller) -> Result<(), Error> {
    match caller.session.as_ref().map(|session| &session.of) {
        Some(SessionOf::Root | SessionOf::User { .. }) => Err(Error::new(
            INVALID_CLIENT_TOKEN_ID,
            "The security token included in the request is invalid: credentials of GetSessionToken cannot call IAM.",
        )),
        Some(SessionOf::Role { .. }) | None => Ok(()),
    }
}

/// Refuses what would exceed a quota (IAM user guide, "IAM and AWS STS quotas").
fn quota(name: &str, limit: usize, count: usize) -> Result<(), Error> {
    if count > limit {
        return Err(Error::new(LIMIT_EXCEEDED, format!("Cannot exceed quota for {name}: {limit}")));
    }
    Ok(())
}

/// Refuses what would make too much of an account; what makes less of it is let through.
fn refuse_growth(before: usize, after: usize) -> Result<(), Error> {
    if after <= before || after <= MAXIMUM_ACCOUNT_BYTES {
        return Ok(());
    }
    let message = format!(
        "The users, roles and policies of the account would have {after} bytes with their texts and tags; at most \
         {MAXIMUM_ACCOUNT_BYTES} are allowed."
    );
    Err(Error::new(LIMIT_EXCEEDED, message))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
