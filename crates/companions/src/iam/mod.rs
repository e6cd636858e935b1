//! IAM: users, roles, managed policies and access keys of the caller's account (API
//! version 2010-05-08).
//!
//! Every operation is a row of a table: what it takes, what it is authorised on, and what it does.
//! `call` checks, authorises and runs, in this order, so nothing can be reached without an
//! authorisation. Changes are authorised on the very state that they change.
//!
//! Reading order: [`call`], `authorize`, `entity`, then the files by what they are about.

mod access_keys;
mod account;
mod attachments;
mod authorize;
mod boundaries;
pub(crate) mod documents;
mod entity;
mod inline_policies;
mod policies;
mod policy_versions;
mod roles;
mod tags;
mod users;
mod views;

use hearth_identity::{Account, Caller, Identities, MAXIMUM_ACCOUNT_BYTES, SessionOf};

use crate::query::form::Form;
use crate::query::shape::{Input, Member};
use crate::query::xml::Xml;
use crate::query::{Code, Refusal};

/// What an operation answers: its result, if it has one.
pub(crate) type Outcome = Result<Option<Xml>, Refusal>;

/// A row of the table.
#[derive(Debug)]
struct Operation {
    /// Also the name of the IAM action.
    name: &'static str,
    on: On,
    members: &'static [Member],
    run: Run,
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

const fn operation(name: &'static str, on: On, members: &'static [Member], run: Run) -> Operation {
    Operation { name, on, members, run }
}

/// The table.
fn operations() -> impl Iterator<Item = &'static Operation> {
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

/// A call whose input fits.
#[derive(Debug)]
struct Call<'a> {
    identities: &'a Identities,
    caller: &'a Caller,
    input: Input,
}

/// Answers a call whose signature was verified.
pub(crate) async fn call(identities: &Identities, action: &str, form: Form, caller: &Caller) -> Outcome {
    let Some(operation) = operations().find(|operation| operation.name == action) else {
        return Err(Refusal::new(
            Code::InvalidAction,
            format!("The action {action} of IAM is not served here."),
        ));
    };
    refuse_session_tokens(caller)?;
    let call = Call { identities, caller, input: Input::check(form, operation.members)? };
    let gone =
        || Refusal::new(Code::InvalidClientTokenId, "The account of the access key is not here any more.");
    match operation.run {
        Run::Read(run) => {
            let account = identities.account(&caller.account).ok_or_else(gone)?;
            authorize::authorize(operation, &account, &call)?;
            run(&account, &call)
        }
        Run::Change(run) => {
            let change = |account: &mut Account| {
                authorize::authorize(operation, account, &call)?;
                let before = account.bytes();
                let outcome = run(account, &call)?;
                refuse_growth(before, account.bytes())?;
                Ok(outcome)
            };
            let changed = identities.change(&caller.account, change).await;
            changed.map_err(|error| Refusal::failure(&error))?.ok_or_else(gone)?
        }
    }
}

/// Credentials of GetSessionToken cannot call IAM without MFA, which there is not (STS API
/// reference, GetSessionToken).
fn refuse_session_tokens(caller: &Caller) -> Result<(), Refusal> {
    match caller.session.as_ref().map(|session| &session.of) {
        Some(SessionOf::Root | SessionOf::User { .. }) => Err(Refusal::new(
            Code::InvalidClientTokenId,
            "The security token included in the request is invalid: credentials of GetSessionToken cannot call IAM.",
        )),
        Some(SessionOf::Role { .. }) | None => Ok(()),
    }
}

/// Refuses what would exceed a quota (IAM user guide, "IAM and AWS STS quotas").
fn quota(name: &str, limit: usize, count: usize) -> Result<(), Refusal> {
    if count > limit {
        return Err(Refusal::new(Code::LimitExceeded, format!("Cannot exceed quota for {name}: {limit}")));
    }
    Ok(())
}

/// Refuses what would make too much of an account; what makes less of it is let through.
fn refuse_growth(before: usize, after: usize) -> Result<(), Refusal> {
    if after <= before || after <= MAXIMUM_ACCOUNT_BYTES {
        return Ok(());
    }
    let message = format!(
        "The users, roles and policies of the account would have {after} bytes with their texts and tags; at most \
         {MAXIMUM_ACCOUNT_BYTES} are allowed."
    );
    Err(Refusal::new(Code::LimitExceeded, message))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
