//! The network connectors of `lambda-core`: routes, and what the operations share.
//! One file per operation.
//!
//! A connector is a record here: it can be named as an egress connector, and a guest that is run
//! with it has no way out, because the VPC that it leads to is not there.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use hearth_api::{Error, ErrorKind, Timestamp};
use hearth_records::TokenClaim;

use super::idempotency::replay;
use crate::config::Context;

mod create_network_connector;
mod delete_network_connector;
mod get_network_connector;
mod identifier;
mod list_network_connector_versions;
mod list_network_connectors;
mod marker;
mod refusal;
mod requirements;
mod update_network_connector;
mod views;

/// How long a connector is PENDING or DELETING, and an update InProgress. The service takes
/// minutes; there is nothing to make or remove here, but clients should meet these states.
const SETTLING_MILLISECONDS: i64 = 1000;

/// The operations with their paths (`lambda-core` 2026-04-30).
pub(crate) fn routes() -> Router<Arc<Context>> {
    let connectors = "/2026-04-04/network-connectors";
    let connector = "/2026-04-04/network-connectors/{identifier}";
    Router::new()
        .route(connectors, post(create_network_connector::handle).get(list_network_connectors::handle))
        .route(
            connector,
            get(get_network_connector::handle)
                .put(update_network_connector::handle)
                .delete(delete_network_connector::handle),
        )
        .route(&format!("{connector}/versions"), get(list_network_connector_versions::handle))
}

/// The time, as exact as it is stored.
fn now() -> Timestamp {
    Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
}

/// When what begins now has settled.
fn settled(now: Timestamp) -> Timestamp {
    Timestamp::from_millis(now.as_millis() + SETTLING_MILLISECONDS)
}

/// 400 InvalidParameterValueException.
fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidParameterValue, message)
}

/// 409 ResourceConflictException.
fn conflict(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::ResourceConflict, message)
}

/// `None`: go on. `Some`: give this answer again.
fn first_answer(claim: TokenClaim) -> Result<Option<String>, Error> {
    replay(claim).map_err(|error| invalid(error.message))
}
