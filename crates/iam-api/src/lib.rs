//! IAM and STS: the API of identities, in the query protocol.
//!
//! Invariants: no operation runs before its action is authorised; a change is authorised on the
//! very state that it changes.
//!
//! Reading order: [`iam`], [`sts`], then `texts` (what texts must look like), `errors`.

mod errors;
pub mod iam;
pub mod sts;
mod texts;

pub use iam::Iam;
pub use sts::Sts;
