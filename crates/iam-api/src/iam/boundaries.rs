//! Permissions boundaries of users and roles.

use hearth_identity::Account;
use hearth_service::Error;
use hearth_service::Operation;
use hearth_service::shape::{Member, required};

use super::attachments::USER;
use super::entity::{Entity, Kind};
use super::policies::refuse_other_arns;
use super::roles::ROLE;
use super::{Call, Iam, On, Outcome, Run, operation};
use crate::errors::NO_SUCH_ENTITY;
use crate::texts::ARN;

const BOUNDARY: Member = required("PermissionsBoundary", &ARN);

pub(super) const OPERATIONS: &[Operation<Iam>] = &[
    operation(
        "PutUserPermissionsBoundary",
        On::User,
        &[USER, BOUNDARY],
        Run::Change(|a, c| put(a, c, Kind::User)),
    ),
    operation(
        "PutRolePermissionsBoundary",
        On::Role,
        &[ROLE, BOUNDARY],
        Run::Change(|a, c| put(a, c, Kind::Role)),
    ),
    operation(
        "DeleteUserPermissionsBoundary",
        On::User,
        &[USER],
        Run::Change(|a, c| delete(a, c, Kind::User)),
    ),
    operation(
        "DeleteRolePermissionsBoundary",
        On::Role,
        &[ROLE],
        Run::Change(|a, c| delete(a, c, Kind::Role)),
    ),
];

/// The boundary that a call names, if it does; it must exist.
pub(super) fn requested(account: &Account, call: &Call<'_>) -> Result<Option<String>, Error> {
    let Some(arn) = call.input().get("PermissionsBoundary") else { return Ok(None) };
    refuse_other_arns(arn)?;
    if account.policy(arn).is_none() {
        let message = format!("Scope ARN: {arn} does not exist or is not attachable.");
        return Err(Error::new(NO_SUCH_ENTITY, message));
    }
    Ok(Some(arn.to_owned()))
}

fn put(account: &mut Account, call: &Call<'_>, kind: Kind) -> Outcome {
    let mut entity = Entity::named(account, call, kind)?;
    entity.policies_mut().boundary = requested(account, call)?;
    entity.put(account);
    Ok(None)
}

fn delete(account: &mut Account, call: &Call<'_>, kind: Kind) -> Outcome {
    let mut entity = Entity::named(account, call, kind)?;
    if entity.policies_mut().boundary.take().is_none() {
        let message = format!("The {} {} has no permissions boundary.", kind.noun(), entity.name());
        return Err(Error::new(NO_SUCH_ENTITY, message));
    }
    entity.put(account);
    Ok(None)
}
