//! Writing a stream in the background, so that whoever has output to hand over waits for no disk.
//!
//! What is queued is bounded. When the store is slow, the queue fills, the caller stops reading,
//! and the source (the agent's ring in the guest) keeps the newest of what it has; nothing in the
//! guest ever waits.
//!
//! Reading order: `line_buffer`, `writer`.

mod line_buffer;
mod writer;

pub use line_buffer::LineBuffer;
pub use writer::{LogWriter, Room};
