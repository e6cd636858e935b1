//! The operation table: what every call of an API passes before and after its function runs.
//!
//! An API is a table of [`Operation`]s over a context ([`Api`]). The pipeline authenticates a
//! request, finds its operation, throttles, decodes and checks it, has the API authorise it, runs
//! it, answers and logs it once. Protocols differ in how they name operations, decode members and
//! spell errors; each is a [`wire::Wire`].
//!
//! Invariants: the function of an operation takes a [`Call`], and only a [`Permit`] makes one,
//! which only a decision of the policies (or the name of the reason why none is needed) makes. So
//! nothing runs unauthenticated, unthrottled, unchecked or unauthorised, whoever writes the
//! operation. Callers read an [`Error`]'s message, and only the log its cause.
//!
//! Reading order: [`operation`], [`call`], `pipeline`, [`wire`], then [`shape`] and [`validate`],
//! [`pages`], [`throttle`].

pub mod call;
pub mod error;
pub mod input;
pub mod json;
mod misread;
pub mod operation;
pub mod pages;
mod pipeline;
pub mod places;
pub mod query;
mod record;
pub mod rest_json;
pub mod shape;
pub mod throttle;
pub mod validate;
pub mod wire;
pub mod xml;

pub use call::{Asked, Call, Permit};
pub use error::{Code, Error, Exception};
pub use input::Input;
pub use operation::{Answer, Api, Effect, Http, Operation, Outcome, Protocol, Run, Verb, to_json};
pub use xml::Xml;
