//! A rate, as a bucket that fills up evenly: the generic cell rate algorithm (ITU-T I.371),
//! in one atomic number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Units that may be taken per second, and as many at once when none were taken for a second.
#[derive(Debug)]
pub(crate) struct Bucket {
    since: Instant,
    nanos_per_unit: f64,
    /// When the bucket is full again, in nanoseconds after `since`.
    full_at: AtomicU64,
}

const SECOND_NANOS: u64 = 1_000_000_000;

impl Bucket {
    /// A full one.
    pub(crate) fn new(units_per_second: u64) -> Self {
        let nanos_per_unit = SECOND_NANOS as f64 / units_per_second.max(1) as f64;
        Self { since: Instant::now(), nanos_per_unit, full_at: AtomicU64::new(0) }
    }

    /// Takes one unit if it is there. If not, it will be within the second.
    pub(crate) fn take(&self) -> bool {
        self.reserve(Duration::ZERO).is_some()
    }

    /// Takes one unit that is there after at most `longest`; the time until then. Nothing is taken
    /// when it would be later.
    pub(crate) fn reserve(&self, longest: Duration) -> Option<Duration> {
        let (now, cost) = (self.now(), self.cost(1));
        let latest = now + SECOND_NANOS + longest.as_nanos() as u64;
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            Some(full_at.max(now) + cost).filter(|full_at| *full_at <= latest)
        });
        let before = taken.ok()?;
        Some(Duration::from_nanos((before.max(now) + cost).saturating_sub(now + SECOND_NANOS)))
    }

    /// Whether a second's worth is there.
    pub(crate) fn is_full(&self) -> bool {
        self.full_at.load(Ordering::Relaxed) <= self.now()
    }

    /// Takes units that were used already; the time until they would have been there.
    pub(crate) fn debit(&self, units: u64) -> Duration {
        let (now, cost) = (self.now(), self.cost(units));
        let add = |full_at: u64| Some(full_at.max(now) + cost);
        let before = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .expect("invariant: this update always has a value");
        Duration::from_nanos((before.max(now) + cost).saturating_sub(now + SECOND_NANOS))
    }

    fn now(&self) -> u64 {
        self.since.elapsed().as_nanos() as u64
    }

    fn cost(&self, units: u64) -> u64 {
        (units as f64 * self.nanos_per_unit) as u64
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_s_worth_at_once_and_then_evenly() {
        let bucket = Bucket::new(10);
        let taken = || (0..100).filter(|_| bucket.take()).count();
        assert_eq!(taken(), 10);
        advance(Duration::from_millis(100)).await;
        assert_eq!(taken(), 1);
        advance(Duration::from_mins(1)).await;
        assert_eq!(taken(), 10, "more than a second's worth is never kept");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_used_is_paid_for_later() {
        let bucket = Bucket::new(1000);
        assert_eq!(bucket.debit(1000), Duration::ZERO);
        assert_eq!(bucket.debit(500), Duration::from_millis(500));
        advance(Duration::from_millis(500)).await;
        assert_eq!(bucket.debit(100), Duration::from_millis(100));
    }
}
