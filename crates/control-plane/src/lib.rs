//! The AWS-shaped HTTP API: a table of operations, one file per operation.
//!
//! Invariants: an operation gets what its caller may act on and nothing else; errors are those of
//! `hearth_api::ErrorKind` and nothing else; a request that was answered can no longer fail.
//!
//! Reading order: [`router`], `access` (on what operations are authorised), `operations` (the
//! table),
//! `shapes` (what their members have in common).

mod access;
mod api;
mod arns;
mod authorize;
mod capacity;
mod config;
mod connectors;
mod endpoints;
mod errors;
mod named_connectors;
mod operations;
mod pages;
mod rates;
mod recent_pages;
mod shapes;
mod watch;

use std::sync::Arc;

use axum::Router;

pub use access::Access;
pub use config::{Context, ControlPlaneConfig, DefaultEgress, Services};
pub use endpoints::{Endpoints, RotationError};
pub use rates::Rates;

/// Prefixes of the paths that are this API's alone.
const PREFIXES: [&str; 3] = ["/2026-04-04", "/2025-09-09", "/2017-03-31"];

/// The API under `/2025-09-09/`, `/2017-03-31/tags/` and `/2026-04-04/`, and our extensions under
/// `/hearth/`. Other paths are left to the fallback of whoever mounts this router.
pub fn router(config: ControlPlaneConfig, services: Services) -> Router {
    let context = Arc::new(Context::new(config, services));
    hearth_service::rest_json::router(context, &PREFIXES, errors::microvms)
}
