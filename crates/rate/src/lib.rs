//! How often something may happen, or how much of it: a token bucket, which is the generic cell
//! rate algorithm (ITU-T I.371) in one atomic number.
//!
//! Invariant: nothing here waits for a lock, so a bucket may be asked for every request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

const SECOND_NANOS: u64 = 1_000_000_000;

/// Units that may be taken per second, with some kept for a burst. It fills up evenly.
#[derive(Debug)]
pub struct Bucket {
    since: Instant,
    nanos_per_unit: f64,
    /// The time in which it fills up.
    burst_nanos: u64,
    /// When it is full again, in nanoseconds after `since`.
    full_at: AtomicU64,
}

impl Bucket {
    /// A full one that holds a second's worth. No units per second count as one.
    pub fn new(units_per_second: u64) -> Self {
        Self::with_burst(units_per_second, units_per_second)
    }

    /// A full one that holds `burst` units.
    pub fn with_burst(units_per_second: u64, burst: u64) -> Self {
        let nanos_per_unit = SECOND_NANOS as f64 / units_per_second.max(1) as f64;
        let burst_nanos = (burst.max(1) as f64 * nanos_per_unit) as u64;
        Self { since: Instant::now(), nanos_per_unit, burst_nanos, full_at: AtomicU64::new(0) }
    }

    /// Takes one unit if it is there.
    #[inline]
    pub fn take(&self) -> bool {
        self.reserve(Duration::ZERO).is_some()
    }

    /// Takes one unit that is there after at most `longest`; the time until then. Nothing is taken
    /// when it would be later.
    #[inline]
    pub fn reserve(&self, longest: Duration) -> Option<Duration> {
        let (now, cost) = (self.now(), self.cost(1));
        let latest = now + self.burst_nanos + longest.as_nanos() as u64;
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            Some(full_at.max(now) + cost).filter(|full_at| *full_at <= latest)
        });
        Some(self.until(taken.ok()?.max(now) + cost, now))
    }

    /// Waits until a unit is there, and takes it. Nothing is taken when this is cancelled.
    pub async fn wait(&self) {
        while !self.take() {
            let (now, cost) = (self.now(), self.cost(1));
            let missing = self.until(self.full_at.load(Ordering::Relaxed).max(now) + cost, now);
            // The timer has no shorter time.
            tokio::time::sleep(missing.max(Duration::from_millis(1))).await;
        }
    }

    /// Takes units that were used already; the time until they would have been there.
    #[inline]
    pub fn debit(&self, units: u64) -> Duration {
        let (now, cost) = (self.now(), self.cost(units));
        let add = |full_at: u64| Some(full_at.max(now) + cost);
        let (Ok(before) | Err(before)) = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        self.until(before.max(now) + cost, now)
    }

    /// Whether nothing is left, or less than nothing.
    pub fn is_empty(&self) -> bool {
        self.full_at.load(Ordering::Relaxed) >= self.now() + self.burst_nanos
    }

    /// Whether all that it can hold is there.
    pub fn is_full(&self) -> bool {
        self.full_at.load(Ordering::Relaxed) <= self.now()
    }

    /// The time until a bucket that is full at `full_at` owes nothing.
    fn until(&self, full_at: u64, now: u64) -> Duration {
        Duration::from_nanos(full_at.saturating_sub(now + self.burst_nanos))
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
        assert!(bucket.is_empty());
        assert_eq!(bucket.debit(500), Duration::from_millis(500));
        advance(Duration::from_millis(500)).await;
        assert_eq!(bucket.debit(100), Duration::from_millis(100));
        advance(Duration::from_millis(101)).await;
        assert!(!bucket.is_empty() && !bucket.is_full());
        advance(Duration::from_secs(1)).await;
        assert!(bucket.is_full());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reservation_is_for_later_but_not_too_late() {
        let bucket = Bucket::with_burst(10, 2);
        let reserved: Vec<_> = (0..5).map(|_| bucket.reserve(Duration::from_millis(200))).collect();
        let expected = [Some(0), Some(0), Some(100), Some(200), None];
        assert_eq!(reserved, expected.map(|millis| millis.map(Duration::from_millis)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_slowed_down_and_a_burst_is_not() {
        let (bucket, start) = (Bucket::with_burst(100, 10), Instant::now());
        for _ in 0..10 {
            bucket.wait().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..100 {
            bucket.wait().await;
        }
        assert!((0.9..1.3).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
    }
}
