//! How fast a stream of replies is read.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes that are read without a pause, and then within a second. An app that prints faster fills
/// its agent's ring, which keeps the newest.
const BYTES: f64 = 16.0 * 1024.0 * 1024.0;
/// Replies that are read without a pause, and then within a second.
const REPLIES: f64 = 20_000.0;

/// A guest that sends without end is read at a pace that leaves the server's threads to others.
#[derive(Debug)]
pub(super) struct Pace {
    /// What may still be read at once, in seconds of each allowance.
    left: f64,
    since: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { left: 1.0, since: Instant::now() }
    }

    /// A reply of so many bytes was read.
    pub(super) fn count(&mut self, bytes: usize) {
        self.left -= (bytes as f64 / BYTES).max(1.0 / REPLIES);
    }

    /// Waits until another may be read. Cancel-safe.
    pub(super) async fn wait(&mut self) {
        while self.left <= 0.0 {
            let now = Instant::now();
            self.left = (self.left + now.duration_since(self.since).as_secs_f64()).min(1.0);
            self.since = now;
            if self.left > 0.0 {
                return;
            }
            tokio::time::sleep(Duration::from_secs_f64(-self.left).max(Duration::from_millis(10))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_small_or_large_replies_is_slowed_down_and_a_burst_is_not() {
        for (bytes, rate) in [(20, REPLIES), (32 << 10, BYTES / f64::from(32 << 10))] {
            let start = Instant::now();
            let mut pace = Pace::new();
            let burst = rate as usize - 1;
            for _ in 0..burst {
                pace.wait().await;
                pace.count(bytes);
            }
            assert_eq!(start.elapsed(), Duration::ZERO);
            for _ in 0..4 * burst {
                pace.wait().await;
                pace.count(bytes);
            }
            assert!((3.5..4.5).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
        }
    }
}
