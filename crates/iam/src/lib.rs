//! A working subset of IAM's policy language; pure: policies and a request in, decision out.
//!
//! Invariants: no clock, file or socket; what a policy says is understood or refused when it is
//! parsed, never ignored; an explicit deny wins; what nothing allows is denied. A parsed policy
//! takes a small multiple of its text in memory, and a decision has a budget of steps, whatever
//! policies and requests contain.
//!
//! Reading order: [`document`] (what a policy may say), `statement`, `condition` and `matching`
//! (whether a statement applies), `budget` (at what cost), [`evaluate`](mod@evaluate) (what follows
//! from several policies), [`decision`] (what the caller is told).
//!
//! Facts are from the IAM user guide, chapter "Policies and permissions"; comments name the page.

mod budget;
mod condition;
pub mod decision;
pub mod document;
pub mod error;
pub mod evaluate;
mod json;
mod matching;
pub mod principal;
mod principal_element;
pub mod request;
mod statement;

pub use decision::{Decision, PolicyType};
pub use document::Document;
pub use error::PolicyError;
pub use evaluate::{Policies, evaluate, evaluate_trust};
pub use principal::Principal;
pub use request::Request;
pub use statement::DocumentKind;
