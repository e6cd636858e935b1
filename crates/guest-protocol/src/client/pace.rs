//! How fast a stream of replies is read.

use std::time::Duration;

use hearth_rate::Bucket;
use tokio::time::Instant;

/// Bytes that are read without a pause, and then within a second. An app that prints faster fills
/// its agent's ring, which keeps the newest.
const BYTES: u64 = 16 << 20;
/// Replies that are read without a pause, and then within a second.
const REPLIES: u64 = 20_000;
/// Shortest pause.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// A guest that sends without end is read at a pace that leaves the server's threads to others.
#[derive(Debug)]
pub(super) struct Pace {
    bytes: Bucket,
    /// When another reply may be read, if not now.
    next: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { bytes: Bucket::new(BYTES), next: None }
    }

    /// A reply of so many bytes was read.
    pub(super) fn count(&mut self, bytes: usize) {
        let pause = self.bytes.debit((bytes as u64).max(BYTES / REPLIES));
        self.next = (!pause.is_zero()).then(|| Instant::now() + pause.max(PAUSE_MIN));
    }

    /// Waits until another may be read. Cancel-safe.
    pub(super) async fn wait(&mut self) {
        if let Some(next) = self.next {
            tokio::time::sleep_until(next).await;
            self.next = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_small_or_large_replies_is_slowed_down_and_a_burst_is_not() {
        for (bytes, rate) in [(20, REPLIES), (32 << 10, BYTES / (32 << 10))] {
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
