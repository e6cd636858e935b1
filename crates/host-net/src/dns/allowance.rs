//! How many queries one guest may ask in a time.

use std::time::Duration;

use tokio::time::Instant;

/// So many at once, and then so many in a second.
#[derive(Debug)]
pub(super) struct Allowance {
    per_second: f64,
    most: f64,
    left: f64,
    since: Instant,
}

impl Allowance {
    pub(super) fn new((most, per_second): (u32, u32)) -> Self {
        let most = f64::from(most);
        Self { per_second: f64::from(per_second), most, left: most, since: Instant::now() }
    }

    /// Waits until there is one, and takes it. Cancel-safe.
    pub(super) async fn take(&mut self) {
        loop {
            let now = Instant::now();
            let gained = now.duration_since(self.since).as_secs_f64() * self.per_second;
            self.left = (self.left + gained).min(self.most);
            self.since = now;
            if self.left >= 1.0 {
                self.left -= 1.0;
                return;
            }
            let missing = Duration::from_secs_f64((1.0 - self.left) / self.per_second);
            tokio::time::sleep(missing.max(Duration::from_millis(1))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_slowed_down_and_a_burst_is_not() {
        let mut allowance = Allowance::new((10, 100));
        let start = Instant::now();
        for _ in 0..10 {
            allowance.take().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..100 {
            allowance.take().await;
        }
        assert!((0.9..1.3).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
    }
}
