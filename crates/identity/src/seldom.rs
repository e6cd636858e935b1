//! Lines of the log that clients can cause as often as they like.

use std::sync::atomic::{AtomicI64, Ordering};

/// Lets through one line a second.
#[derive(Debug)]
pub(crate) struct Seldom(AtomicI64);

impl Seldom {
    pub(crate) const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// Whether a line is to be written now.
    pub(crate) fn is_due(&self) -> bool {
        let second = jiff::Timestamp::now().as_second();
        self.0.swap(second, Ordering::Relaxed) != second
    }
}
