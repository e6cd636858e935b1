//! Equal shares of what the endpoints can move, for microVMs that want more than there is.
//!
//! Connections take turns; a microVM with a hundred of them would have a hundred turns for each of
//! another's. So the bytes of every microVM are counted over short periods. As long as about as
//! much is moved as ever is, and by several, what any of them may move in a period is lowered step
//! by step, down to an equal share; when the others do not take what that leaves, it is raised
//! again. A microVM that is alone, or wants less than a share, meets no limit.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Over what is counted.
const PERIOD: Duration = Duration::from_millis(20);
/// What any microVM may move in a period, in bytes: 50 MB a second.
const LIMIT_MIN: u64 = 1 << 20;
/// By how much the limit is lowered or raised after a period.
const STEP: f64 = 0.9;
/// What is left, after a period, of the most that was ever moved in one.
const MEMORY: f64 = 0.998;
/// The part of that beyond which there is contention.
const CONTENTION: f64 = 0.9;

/// The shares of all microVMs.
#[derive(Debug)]
pub(crate) struct Shares {
    since: Instant,
    period: AtomicU64,
    /// What a microVM may move in this period.
    limit: AtomicU64,
    /// What could be moved in a period, and the limit before it is rounded.
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    capacity: f64,
    limit: f64,
}

/// What one microVM has moved in this period, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Moved(AtomicU64);

impl Shares {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            period: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
            seen: Mutex::new(Seen { capacity: 0.0, limit: f64::INFINITY }),
        }
    }

    /// Counts bytes of a microVM; how long the connection that they went over must rest. `all` is
    /// called once in a period, for what all microVMs have moved.
    pub(crate) fn count(&self, moved: &Moved, bytes: u64, all: impl FnOnce() -> Vec<u64>) -> Duration {
        let elapsed = self.since.elapsed();
        let (now, before) =
            ((elapsed.as_nanos() / PERIOD.as_nanos()) as u64, self.period.load(Ordering::Relaxed));
        let is_first = now > before
            && self.period.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_first {
            let limit = self.next_limit(&all(), now - before);
            self.limit.store(limit, Ordering::Relaxed);
        }
        let moved = moved.0.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if moved <= self.limit.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        PERIOD.saturating_mul(now as u32 + 1).saturating_sub(elapsed)
    }

    fn next_limit(&self, moved: &[u64], periods: u64) -> u64 {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let total = moved.iter().sum::<u64>() as f64 / periods.max(1) as f64;
        let greatest = moved.iter().copied().max().unwrap_or_default() as f64;
        let count = moved.iter().filter(|bytes| **bytes > 0).count();
        seen.capacity = total.max(seen.capacity * MEMORY);
        seen.limit = if periods > 1 || count < 2 {
            f64::INFINITY
        } else if total >= seen.capacity * CONTENTION {
            (seen.limit.min(greatest) * STEP).max(seen.capacity / count as f64).max(LIMIT_MIN as f64)
        } else {
            seen.limit / STEP
        };
        if seen.limit > seen.capacity {
            seen.limit = f64::INFINITY;
        }
        // What is too large for the number is its largest.
        seen.limit as u64
    }
}

impl Moved {
    /// What was moved in the period that is over.
    pub(crate) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    const MIB: u64 = 1 << 20;

    /// Of a link of 40 MiB in each period, one microVM takes 30 turns while the other takes one.
    #[tokio::test(start_paused = true)]
    async fn many_connections_do_not_make_a_greater_share() {
        let shares = Shares::new();
        let (greedy, modest) = (Moved::default(), Moved::default());
        let mut totals = [0, 0];
        for period in 0..200 {
            let all = || vec![greedy.take(), modest.take()];
            let mut rests = [false, false];
            // Turns are taken until the link is full or all rest.
            let mut moved = 0;
            for turn in 0..100_000_u64 {
                let who = usize::from(turn % 31 == 0);
                if moved >= 40 * MIB || rests == [true, true] {
                    break;
                }
                if !rests[who] {
                    let account = if who == 1 { &modest } else { &greedy };
                    rests[who] = shares.count(account, MIB / 16, all) > Duration::ZERO;
                    moved += MIB / 16;
                    if period >= 100 {
                        totals[who] += MIB / 16;
                    }
                }
            }
            sleep(PERIOD).await;
        }
        let [greedy, modest] = totals;
        assert!(greedy < modest * 3 / 2, "{} to {} MiB", greedy / MIB, modest / MIB);
        assert!(greedy + modest > 100 * 36 * MIB, "{} MiB", (greedy + modest) / MIB);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_alone_never_rests() {
        let (shares, alone) = (Shares::new(), Moved::default());
        for _ in 0..500 {
            for _ in 0..40 {
                assert_eq!(shares.count(&alone, MIB, || vec![alone.take()]), Duration::ZERO);
            }
            advance(PERIOD).await;
        }
    }

    /// A neighbour that wants little costs nearly nothing, and never rests.
    #[tokio::test(start_paused = true)]
    async fn what_one_does_not_want_the_others_have() {
        let shares = Shares::new();
        let (greedy, small) = (Moved::default(), Moved::default());
        let mut total = 0;
        for _ in 0..500 {
            let all = || vec![greedy.take(), small.take()];
            assert_eq!(shares.count(&small, 1000, all), Duration::ZERO);
            let pieces = (0..40).take_while(|_| shares.count(&greedy, MIB, all) == Duration::ZERO);
            total += pieces.count();
            advance(PERIOD).await;
        }
        assert!(total > 500 * 40 * 3 / 4, "{total} MiB");
    }
}
