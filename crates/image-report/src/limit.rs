//! How long a search may go on.

use std::time::Instant;

/// When a search ends, whatever is left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    deadline: Instant,
}

impl Limit {
    /// Reached at `deadline`.
    pub(crate) fn at(deadline: Instant) -> Self {
        Self { deadline }
    }

    pub(crate) fn is_reached(&self) -> bool {
        Instant::now() >= self.deadline
    }
}
