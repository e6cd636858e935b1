//! The table of operations, one file each; `views` turns records into answers. A new operation is a
//! file with its [`Operation`], named below.

mod create_microvm_auth_token;
mod create_microvm_image;
mod create_microvm_shell_auth_token;
mod delete_microvm_image;
mod delete_microvm_image_version;
mod get_endpoint_counters;
mod get_image_report;
mod get_microvm;
mod get_microvm_egress;
mod get_microvm_image;
mod get_microvm_image_build;
mod get_microvm_image_version;
mod idempotency;
mod image_configuration;
mod list_events;
mod list_managed_microvm_image_versions;
mod list_managed_microvm_images;
mod list_microvm_image_builds;
mod list_microvm_image_versions;
mod list_microvm_images;
mod list_microvms;
mod managed_images;
mod network_connectors;
mod refusals;
mod resume_microvm;
mod revoke_microvm_auth_tokens;
mod rotate_endpoint_token_keys;
mod run_microvm;
mod suspend_microvm;
mod tags;
mod terminate_microvm;
mod update_microvm_image;
mod update_microvm_image_version;
mod views;

use hearth_service::{Http, Operation, Protocol, Verb};

use crate::config::Context;
use crate::errors;

/// The operations of `lambda-microvms`, our extensions, and tags.
static OPERATIONS: [&Operation<Context>; 30] = [
    &create_microvm_image::OPERATION,
    &get_microvm_image::OPERATION,
    &list_microvm_images::OPERATION,
    &update_microvm_image::OPERATION,
    &delete_microvm_image::OPERATION,
    &get_microvm_image_version::OPERATION,
    &list_microvm_image_versions::OPERATION,
    &update_microvm_image_version::OPERATION,
    &delete_microvm_image_version::OPERATION,
    &get_microvm_image_build::OPERATION,
    &list_microvm_image_builds::OPERATION,
    &list_managed_microvm_images::OPERATION,
    &list_managed_microvm_image_versions::OPERATION,
    &run_microvm::OPERATION,
    &get_microvm::OPERATION,
    &list_microvms::OPERATION,
    &suspend_microvm::OPERATION,
    &resume_microvm::OPERATION,
    &terminate_microvm::OPERATION,
    &create_microvm_auth_token::OPERATION,
    &create_microvm_shell_auth_token::OPERATION,
    &tags::TAG_RESOURCE,
    &tags::UNTAG_RESOURCE,
    &tags::LIST_TAGS,
    &get_image_report::OPERATION,
    &get_endpoint_counters::OPERATION,
    &get_microvm_egress::OPERATION,
    &revoke_microvm_auth_tokens::OPERATION,
    &rotate_endpoint_token_keys::OPERATION,
    &list_events::OPERATION,
];

/// The whole table.
pub(crate) fn all() -> impl Iterator<Item = &'static Operation<Context>> {
    OPERATIONS.into_iter().chain(network_connectors::OPERATIONS)
}

/// An operation of `lambda-microvms` that answers 200.
const fn on(verb: Verb, path: &'static str) -> Protocol {
    answering(200, verb, path)
}

/// An operation of `lambda-microvms` with another status of success.
const fn answering(status: u16, verb: Verb, path: &'static str) -> Protocol {
    Protocol::RestJson(Http { verb, path, status, errors: errors::microvms })
}

#[cfg(test)]
mod tests;
