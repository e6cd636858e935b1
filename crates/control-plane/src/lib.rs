//! The AWS-shaped HTTP API: authenticate, route, one file per operation.
//!
//! Invariants: no operation is reached without a verified signature; every answer has
//! `x-amzn-requestid`; errors are those of `hearth_api::Error` and nothing else; a request that was
//! answered can no longer fail.
//!
//! Reading order: [`http`] (routes), `call` (a request on its way in), `answer` (on its way out),
//! `validate` and `shapes` (what is checked before an operation sees anything), `operations`.

mod answer;
mod arns;
mod authorize;
mod call;
mod capacity;
mod config;
mod connectors;
mod endpoints;
pub mod http;
mod operations;
mod page;
mod recent_pages;
mod shapes;
mod throttle;
mod validate;

pub use config::{ControlPlaneConfig, Services};
pub use endpoints::{Endpoints, RotationError};
pub use http::router;
pub use throttle::Rates;
