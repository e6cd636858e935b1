//! From a zip with a Dockerfile to an image version with a snapshot.
//!
//! A build goes through these steps:
//!
//! 1. fetch the zip, check it and turn it into a tar (`archive`);
//! 2. find the images that the Dockerfile starts from (`dockerfile`, `base_images`, `pulls`);
//! 3. wait for a place (`slots`, `room`);
//! 4. run the Dockerfile in a build microVM (`container_build`), and once more when the builder in
//!    there names images that are missing (`rounds`);
//! 5. start the result in a second, clean microVM, wait until it is ready and take the snapshot
//!    (`image_snapshot`);
//! 6. try the snapshot out (`validation`) and report what it holds (`reporting`).
//!
//! `builder` drives this, and `recording` and `deletion` alone change the records of images,
//! versions and builds once they have been made. A build whose records are somebody else's by then
//! publishes nothing.
//!
//! Invariant: nothing that a Dockerfile or a zip says is run or unpacked on the host; zips and
//! snapshots are read there by a confined process (`readers`).

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
mod recording;
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
