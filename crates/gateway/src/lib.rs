//! Which API answers a request to the one address of all: the control plane, or one of its
//! neighbours S3, CloudWatch Logs, Service Quotas, IAM and STS.
//!
//! Invariant: nothing is decided here but who answers.
//!
//! Reading order: [`Neighbours`], [`WholeApi`].

mod router;
mod whole_api;

pub use router::Neighbours;
pub use whole_api::WholeApi;
