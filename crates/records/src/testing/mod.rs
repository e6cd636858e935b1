//! Records for tests: in memory, and behind a guard that may refuse to write them.

mod guarded;
mod memory;

pub use guarded::{BeforeWrite, Guarded};
pub use memory::MemoryRecords;
