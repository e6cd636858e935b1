//! Requests per second, per account and rate. Like the service, this slows a caller who is a little
//! too fast and refuses one who is much too fast.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hearth_api::{AccountId, ErrorKind};
use tokio::time::Instant;

use crate::error::Error;

/// Longest time that a request is held back.
const MAXIMUM_DELAY: Duration = Duration::from_secs(1);

/// The token buckets, each as the moment when it will be full again (the generic cell rate
/// algorithm, ITU-T I.371).
#[derive(Debug)]
pub struct Throttle {
    /// Requests per second by the name of the rate; 0 is no limit.
    rates: Vec<(&'static str, u32)>,
    full_at: Mutex<HashMap<(AccountId, &'static str), Instant>>,
}

impl Throttle {
    /// Rates by name, in requests per second, which is also how many may come at once; 0 is no
    /// limit.
    pub fn new(rates: impl IntoIterator<Item = (&'static str, u32)>) -> Self {
        Self { rates: rates.into_iter().collect(), full_at: Mutex::default() }
    }

    /// The rate of this name, if there is one.
    pub fn rate(&self, name: &str) -> Option<u32> {
        self.rates.iter().find(|(known, _)| *known == name).map(|(_, rate)| *rate)
    }

    /// Returns when the request may go on.
    pub(crate) async fn admit(&self, account: &AccountId, name: &'static str) -> Result<(), Error> {
        let delay = self.delay(account, name, Instant::now());
        if delay > MAXIMUM_DELAY {
            return Err(Error::new(ErrorKind::Throttling, "Rate exceeded"));
        }
        // Even to sleep for no time takes until the timer's next millisecond.
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    /// How long a request that comes `now` has to wait. One that has to wait too long takes no
    /// token.
    fn delay(&self, account: &AccountId, name: &'static str, now: Instant) -> Duration {
        let rate = self.rate(name).unwrap_or_default();
        if rate == 0 {
            return Duration::ZERO;
        }
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = full_at.entry((account.clone(), name)).or_insert(now);
        let after = (*full_at).max(now) + Duration::from_secs(1) / rate;
        // A whole bucket takes a second to fill, whatever the rate.
        let delay = after.duration_since(now).saturating_sub(Duration::from_secs(1));
        if delay <= MAXIMUM_DELAY {
            *full_at = after;
        }
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_requests_are_slowed_then_refused() {
        let throttle = Throttle::new([("Run", 4), ("Suspend", 2), ("Get", 0)]);
        let (one, other) = (AccountId::from_stored("1"), AccountId::from_stored("2"));
        let begin = Instant::now();
        let at = |account, seconds| throttle.delay(account, "Run", begin + Duration::from_secs(seconds));
        let delays: Vec<u64> = (0..9).map(|_| at(&one, 0).as_millis() as u64).collect();
        assert_eq!(delays, [0, 0, 0, 0, 250, 500, 750, 1000, 1250]);
        assert_eq!(at(&one, 0), Duration::from_millis(1250), "a refused request takes no token");
        assert_eq!(at(&other, 0), Duration::ZERO, "accounts do not share");
        assert_eq!(throttle.delay(&one, "Suspend", begin), Duration::ZERO, "nor do rates");
        assert_eq!(at(&one, 1), Duration::from_millis(250));
        assert_eq!(at(&one, 60), Duration::ZERO);
        assert!((0..1000).all(|_| throttle.delay(&one, "Get", begin).is_zero()), "0 is no limit");
    }
}
