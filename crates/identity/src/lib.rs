//! Who calls and what they may do: accounts, users, roles, policies, access keys, sessions.
//!
//! Invariants: everything is in memory and every change is in the database before it is visible; a role or user that
//! was deleted has no rights, also in the hands of a session that was made before, and not even when another one of
//! the same name comes; only the root user of an account has rights that no policy gives.
//!
//! Reading order: [`entities`] (what there is), [`account`] (an account and how it changes), [`session`] (temporary
//! credentials), [`identities`] (the whole, and authentication), `authorize` (what a caller may do), [`service_role`]
//! (what a role may do in the hands of the service).

pub mod account;
mod authorize;
pub mod caller;
pub mod entities;
pub mod identities;
mod managed;
pub mod service_role;
pub mod session;
mod unique;

pub use account::Account;
pub use caller::Caller;
pub use entities::{AccessKey, ManagedPolicy, Policy, PolicyVersion, Role, User};
pub use identities::{Identities, IdentityError, RootKey, SourceAddress};
pub use service_role::ServiceRole;
pub use session::{Session, SessionOf};
pub use unique::{secret, unique_id};

#[cfg(test)]
mod tests;
