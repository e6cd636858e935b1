//! Who calls and what they may do: accounts, users, roles, policies, access keys, sessions.
//!
//! Invariants: everything is in memory; a change is made of what is in the database, and is there
//! before it is visible; another process sees it when it refreshes. A session ends with the user or
//! role that it is of and with everyone in the chain of calls that made it, and a new user or role
//! of the same name does not inherit it; only the root user of an account has rights that no policy
//! gives; what an account has in memory is bounded; no policy is evaluated while the lock over all
//! accounts is held.
//!
//! Reading order: [`entities`] (what there is), [`account`] (an account and how it changes),
//! [`session`] (temporary credentials), `sessions` (how many), `directory` (whose a key is),
//! [`identities`] (the whole, and authentication), `authorize` (what a caller may do),
//! [`conditions`] (the condition keys of its requests), [`service_role`] (what a role may do in the
//! hands of the service).

pub mod account;
mod authorize;
pub mod caller;
pub mod conditions;
mod directory;
pub mod entities;
pub mod identities;
mod intake;
mod log_rights;
mod managed;
mod seldom;
pub mod service_role;
pub mod session;
mod sessions;
mod source;
mod unique;

pub use account::{Account, MAXIMUM_ACCOUNT_BYTES};
pub use caller::Caller;
pub use entities::{AccessKey, ManagedPolicy, Policy, PolicyVersion, Role, User};
pub use identities::{Identities, IdentityError, RootKey};
pub use intake::{Intake, Share, Unread};
pub use log_rights::{PolicyLogRights, log_questions};
pub use service_role::{OnBehalf, Owned, ServiceRole};
pub use session::{Origin, Session, SessionOf};
pub use source::{ConnectionUser, SourceAddress};
pub use unique::{secret, unique_id};

#[cfg(test)]
mod tests;
