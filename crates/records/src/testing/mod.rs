//! Records for tests: samples, a keeper in memory, a guard that may refuse to write, and the suite
//! that every keeper of records passes.

#[expect(clippy::unwrap_used, reason = "a suite fails its caller by panicking")]
mod conformance;
#[expect(clippy::unwrap_used, reason = "a suite fails its caller by panicking")]
mod connectors;
mod guarded;
#[expect(clippy::unwrap_used, reason = "a suite fails its caller by panicking")]
mod images;
mod memory;
#[expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "what they are made of is valid")]
mod samples;
#[expect(clippy::unwrap_used, reason = "as above")]
mod shared;

pub use conformance::Subject;
pub use connectors::connectors_conform;
pub use guarded::{BeforeWrite, Guarded};
pub use images::images_conform;
pub use memory::MemoryRecords;
pub use samples::{begun, built, image_arn, settings};
pub use shared::what_is_shared_conforms;
