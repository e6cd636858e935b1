//! The network connectors of `lambda-core`: their table, and what the operations share. One file
//! per operation.
//!
//! A connector is a record here: it can be named as an egress connector. A guest that is run with
//! it has no way out, because the VPC that it leads to is not there, unless the connector has
//! rules: then it is an egress policy.

use hearth_api::{ErrorKind, Timestamp};
use hearth_records::TokenClaim;
use hearth_service::{Error, Http, Operation, Protocol, Verb};

use super::idempotency::replay;
use crate::config::Context;
use crate::errors;
use crate::named_connectors::{invalid, now};

mod create_egress_policy;
mod create_network_connector;
mod delete_network_connector;
mod egress_policies;
mod get_egress_policy;
mod get_network_connector;
mod list_network_connector_versions;
mod list_network_connectors;
mod marker;
mod put_egress_rules;
mod requirements;
mod shapes;
mod update_network_connector;
mod views;

/// How long a connector is PENDING or DELETING, and an update InProgress. The service takes
/// minutes; there is nothing to make or remove here, but clients should meet these states.
const SETTLING_MILLISECONDS: i64 = 1000;

const CONNECTORS: &str = "/2026-04-04/network-connectors";
const CONNECTOR: &str = "/2026-04-04/network-connectors/{identifier}";

/// The operations of `lambda-core` 2026-04-30 that are served, and those on egress policies.
pub(super) static OPERATIONS: [&Operation<Context>; 9] = [
    &create_network_connector::OPERATION,
    &get_network_connector::OPERATION,
    &list_network_connectors::OPERATION,
    &list_network_connector_versions::OPERATION,
    &update_network_connector::OPERATION,
    &delete_network_connector::OPERATION,
    &create_egress_policy::OPERATION,
    &get_egress_policy::OPERATION,
    &put_egress_rules::OPERATION,
];

/// An operation of `lambda-core` with its status of success.
const fn answering(status: u16, verb: Verb, path: &'static str) -> Protocol {
    Protocol::RestJson(Http { verb, path, status, errors: errors::core })
}

/// When what begins now has settled.
fn settled(now: Timestamp) -> Timestamp {
    Timestamp::from_millis(now.as_millis() + SETTLING_MILLISECONDS)
}

/// 409 ResourceConflictException.
fn conflict(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::ResourceConflict, message)
}

/// What a new connector is told whose name the account has used.
fn name_taken(name: &str) -> Error {
    conflict(format!("A network connector with the name '{name}' already exists"))
}

/// `None`: go on. `Some`: give this answer again.
fn first_answer(claim: TokenClaim) -> Result<Option<String>, Error> {
    replay(claim).map_err(|error| invalid(error.message))
}
