//! Records for tests: in memory, behind a guard that may refuse to write them, and the suite that
//! every keeper of records passes.

#[expect(clippy::unwrap_used, reason = "it is a test, of whoever calls it")]
mod conformance;
mod guarded;
mod memory;

pub use conformance::Subject;
pub use guarded::{BeforeWrite, Guarded};
pub use memory::MemoryRecords;
