//! From a zip with a Dockerfile to an image version with a snapshot.
//!
//! The way of a build: fetch the zip, check it and turn it into a tar (`archive`), find the images
//! it starts from (`dockerfile`, `base_images`, `pulls`), wait for a place (`slots`, `room`), run
//! it in a build microVM (`container_build`) and again when the builder there names further ones
//! (`rounds`), start the result in a second, clean microVM, wait until it is ready and take the
//! snapshot (`image_snapshot`), try it out (`validation`) and look what it holds (`reporting`).
//! `builder` drives this and is the only writer of image, version and build rows after their
//! creation.
//!
//! Invariant: nothing that a Dockerfile or a zip says is ever run or unpacked on the host, and what
//! reads a zip or a snapshot there is a confined process (`readers`).

mod app_output;
mod archive;
mod base_images;
mod build_guest;
mod build_hook;
mod build_log;
mod build_output;
mod builder;
mod cancellation;
mod container_build;
mod deletion;
mod dockerfile;
mod failure;
mod fetch;
mod image_snapshot;
mod logins;
mod preparation;
mod pulls;
mod readers;
mod readiness;
mod reporting;
mod room;
mod rounds;
mod slots;
mod source;
mod store_cache;
mod store_tool;
mod validation;

pub use archive::{ArchiveLimits, Context};
pub use base_images::{BaseImages, BaseImagesConfig};
pub use builder::{ImageBuilder, ImageBuilderConfig};
pub use deletion::refusal;
pub use dockerfile::Scan;
pub use failure::{BuildFailure, FailureCode};
pub use hearth_image_pull::{Proxy, PullLimits};
pub use logins::RegistryLogin;
pub use readers::{CONFINED_WORKS, Readers, SnapshotQuestion};
pub use source::{ArtifactError, ArtifactSource, Reader};
