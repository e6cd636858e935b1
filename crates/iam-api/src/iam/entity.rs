//! What users and roles have in common: policies, a boundary and tags.

use hearth_iam::Principal;
use hearth_identity::entities::{Attachments, Tags};
use hearth_identity::{Account, Role, User};
use hearth_service::{Asked, Error};

use super::Call;
use crate::errors::{DELETE_CONFLICT, NO_SUCH_ENTITY, VALIDATION_ERROR};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    User,
    Role,
}

impl Kind {
    /// As sentences and ARNs have it.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Role => "role",
        }
    }

    /// As names of members, quotas and operations have it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Role => "Role",
        }
    }

    /// Member that names it.
    pub(super) fn member(self) -> &'static str {
        match self {
            Self::User => "UserName",
            Self::Role => "RoleName",
        }
    }
}

/// A copy of a user or role.
#[derive(Debug, Clone)]
pub(super) enum Entity {
    User(User),
    Role(Role),
}

impl Entity {
    /// The user or role of this name.
    pub(super) fn find(account: &Account, kind: Kind, name: &str) -> Result<Self, Error> {
        let found = match kind {
            Kind::User => account.user(name).cloned().map(Self::User),
            Kind::Role => account.role(name).cloned().map(Self::Role),
        };
        let message = || format!("The {} with name {name} cannot be found.", kind.noun());
        found.ok_or_else(|| Error::new(NO_SUCH_ENTITY, message()))
    }

    /// The one that a call names.
    pub(super) fn named(account: &Account, call: &Call<'_>, kind: Kind) -> Result<Self, Error> {
        let name = match kind {
            Kind::User => user_name(call)?,
            Kind::Role => call.input().required("RoleName"),
        };
        Self::find(account, kind, name)
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::User(user) => &user.name,
            Self::Role(role) => &role.name,
        }
    }

    pub(super) fn path(&self) -> &str {
        match self {
            Self::User(user) => &user.path,
            Self::Role(role) => &role.path,
        }
    }

    pub(super) fn id(&self) -> &str {
        match self {
            Self::User(user) => &user.id,
            Self::Role(role) => &role.id,
        }
    }

    pub(super) fn arn(&self) -> String {
        match self {
            Self::User(user) => user.arn(),
            Self::Role(role) => role.arn(),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::User(_) => Kind::User,
            Self::Role(_) => Kind::Role,
        }
    }

    pub(super) fn policies(&self) -> &Attachments {
        match self {
            Self::User(user) => &user.policies,
            Self::Role(role) => &role.policies,
        }
    }

    pub(super) fn policies_mut(&mut self) -> &mut Attachments {
        match self {
            Self::User(user) => &mut user.policies,
            Self::Role(role) => &mut role.policies,
        }
    }

    pub(super) fn tags(&self) -> &Tags {
        match self {
            Self::User(user) => &user.tags,
            Self::Role(role) => &role.tags,
        }
    }

    pub(super) fn tags_mut(&mut self) -> &mut Tags {
        match self {
            Self::User(user) => &mut user.tags,
            Self::Role(role) => &mut role.tags,
        }
    }

    /// Puts it in the place of the one that it is a copy of.
    pub(super) fn put(self, account: &mut Account) {
        match self {
            Self::User(user) => account.put_user(user),
            Self::Role(role) => account.put_role(role),
        }
    }
}

/// `UserName`, else the name of the user who calls.
pub(super) fn user_name(asked: &Asked) -> Result<&str, Error> {
    match (asked.input().get("UserName"), &asked.caller().principal) {
        (Some(name), _) => Ok(name),
        (None, Principal::User { name, .. }) => Ok(name),
        (None, _) => {
            Err(Error::new(VALIDATION_ERROR, "Must specify userName when calling with non-User credentials"))
        }
    }
}

/// Refuses to delete who still has policies. `first` is one more reason, with what has
/// to be done about it.
pub(super) fn refuse_occupied(policies: &Attachments, first: Option<&str>) -> Result<(), Error> {
    let reasons = [
        first,
        (!policies.managed.is_empty()).then_some("detach all policies"),
        (!policies.inline.is_empty()).then_some("delete policies"),
    ];
    match reasons.into_iter().flatten().next() {
        None => Ok(()),
        Some(reason) => {
            Err(Error::new(DELETE_CONFLICT, format!("Cannot delete entity, must {reason} first.")))
        }
    }
}
