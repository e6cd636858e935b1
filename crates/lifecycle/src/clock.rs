//! The two clocks of a microVM's timers.
//!
//! Moments in records are those of the wall clock. Time that passes while this process runs
//! is measured by a steady clock, which counts the host's sleep and takes no notice of
//! steps of the wall clock.

use std::fmt;
use std::time::Duration;

use hearth_api::Timestamp;

/// Tells the time; tests bring their own.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock.
    fn wall(&self) -> Timestamp;

    /// Milliseconds of a clock that nobody sets and that goes on while the host sleeps; only
    /// differences mean something.
    fn steady_millis(&self) -> i64;

    /// The longest that a timer may sleep before it looks at the steady clock again.
    fn longest_sleep(&self) -> Duration;
}

/// The host's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostClock;

impl Clock for HostClock {
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    /// CLOCK_BOOTTIME: tokio's own timers follow CLOCK_MONOTONIC, which stands still
    /// while the host sleeps.
    fn steady_millis(&self) -> i64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        now.tv_sec * 1000 + now.tv_nsec / 1_000_000
    }

    fn longest_sleep(&self) -> Duration {
        Duration::from_mins(1)
    }
}
