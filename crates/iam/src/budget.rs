//! How much work a decision may be.

use std::cell::Cell;

/// Steps of a decision: comparisons of a character, most of them. Policies of the greatest size
/// that wildcards do not stretch take a tenth of it. It is a few milliseconds.
const STEPS: i64 = 1_000_000;

/// The steps that a decision has left.
///
/// A pattern is compared with a text in up to pattern × text steps, and both come from tenants: a
/// `User-Agent` of 60,000 characters and thousands of wildcards would take minutes. No length of
/// either is safe and useful at once, so the work itself is counted. When there is none left
/// nothing matches any more, and [`crate::evaluate()`] denies whatever follows from that; so a
/// condition cannot be dodged by a value that is too long for it.
#[derive(Debug)]
pub(crate) struct Budget(Cell<i64>);

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(STEPS))
    }
}

impl Budget {
    /// Takes `steps`; false when there were not as many left.
    pub(crate) fn take(&self, steps: usize) -> bool {
        let left = self.0.get().saturating_sub(i64::try_from(steps).unwrap_or(i64::MAX));
        self.0.set(left);
        left >= 0
    }

    /// Whether more was asked for than there was, so that what was found since means nothing.
    pub(crate) fn is_spent(&self) -> bool {
        self.0.get() < 0
    }

    /// Steps that were taken so far.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> i64 {
        STEPS - self.0.get()
    }
}
