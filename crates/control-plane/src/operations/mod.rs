//! One file per operation, named like it; `views` turns records into answers.

pub(crate) mod create_microvm_auth_token;
pub(crate) mod create_microvm_image;
pub(crate) mod delete_microvm_image;
pub(crate) mod get_microvm;
pub(crate) mod get_microvm_image;
pub(crate) mod get_microvm_image_build;
pub(crate) mod get_microvm_image_version;
pub(crate) mod idempotency;
pub(crate) mod list_managed_microvm_image_versions;
pub(crate) mod list_managed_microvm_images;
pub(crate) mod list_microvm_image_builds;
pub(crate) mod list_microvm_image_versions;
pub(crate) mod list_microvm_images;
pub(crate) mod list_microvms;
pub(crate) mod managed_images;
pub(crate) mod network_connectors;
pub(crate) mod refusals;
pub(crate) mod resume_microvm;
pub(crate) mod run_microvm;
pub(crate) mod suspend_microvm;
pub(crate) mod terminate_microvm;
pub(crate) mod views;
