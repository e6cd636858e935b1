//! Users, roles, policies and sessions. What is in the values is the crate `identity`'s business.

use std::fmt;

use async_trait::async_trait;
use hearth_api::AccountId;

use crate::error::Result;
use crate::shared::Versioned;

/// What a row describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityKind {
    /// A user.
    User,
    /// A role.
    Role,
    /// The name of a role that was deleted.
    GoneRole,
    /// A managed policy.
    Policy,
    /// Temporary credentials.
    Session,
}

impl IdentityKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::User, Self::Role, Self::GoneRole, Self::Policy, Self::Session];

    /// Name of the kind as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Role => "role",
            Self::GoneRole => "gone-role",
            Self::Policy => "policy",
            Self::Session => "session",
        }
    }
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRow {
    /// Account that has it.
    pub account: AccountId,
    /// What it is.
    pub kind: IdentityKind,
    /// Key among those of its kind.
    pub name: String,
    /// JSON.
    pub value: String,
}

/// A change of one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityWrite {
    /// Makes or replaces it.
    Put(IdentityRow),
    /// Removes it.
    Delete {
        /// Account that has it.
        account: AccountId,
        /// What it is.
        kind: IdentityKind,
        /// Key among those of its kind.
        name: String,
    },
}

/// Users, roles, policies and sessions, as they are kept.
#[async_trait]
pub trait Identities: Send + Sync + fmt::Debug {
    /// The version of all rows; cheap enough for every change.
    async fn identities_version(&self) -> Result<u64>;

    /// All rows, of one moment.
    async fn identities(&self) -> Result<Versioned<Vec<IdentityRow>>>;

    /// Makes changes, all or none, of rows that still are of the version `was`: the new version, or
    /// `None` when they are not, and nothing is written. It is on the disk when this returns.
    async fn write_identities(&self, was: u64, writes: &[IdentityWrite]) -> Result<Option<u64>>;
}
