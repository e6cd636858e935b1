//! Requests per second, per account and rate. Like the service, this slows a caller who is a little
//! too fast and refuses one who is much too fast.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hearth_api::{AccountId, ErrorKind};
use hearth_rate::Bucket;

use crate::error::Error;

/// Longest time that a request is held back.
const MAXIMUM_DELAY: Duration = Duration::from_secs(1);

/// The rates, and a token bucket for each account and rate.
#[derive(Debug)]
pub struct Throttle {
    /// Requests per second by the name of the rate; 0 is no limit.
    rates: Vec<(&'static str, u32)>,
    buckets: Mutex<HashMap<(AccountId, &'static str), Bucket>>,
}

impl Throttle {
    /// Rates by name, in requests per second, which is also how many may come at once; 0 is no
    /// limit.
    pub fn new(rates: impl IntoIterator<Item = (&'static str, u32)>) -> Self {
        Self { rates: rates.into_iter().collect(), buckets: Mutex::default() }
    }

    /// The rate of this name, if there is one.
    pub fn rate(&self, name: &str) -> Option<u32> {
        self.rates.iter().find(|(known, _)| *known == name).map(|(_, rate)| *rate)
    }

    /// Returns when the request may go on.
    pub(crate) async fn admit(&self, account: &AccountId, name: &'static str) -> Result<(), Error> {
        let delay = self.delay(account, name);
        let delay = delay.ok_or_else(|| Error::new(ErrorKind::Throttling, "Rate exceeded"))?;
        // Even to sleep for no time takes until the timer's next millisecond.
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    /// How long a request has to wait; `None` if that is too long, and then it takes no token.
    fn delay(&self, account: &AccountId, name: &'static str) -> Option<Duration> {
        let rate = self.rate(name).unwrap_or_default();
        if rate == 0 {
            return Some(Duration::ZERO);
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry((account.clone(), name)).or_insert_with(|| Bucket::new(rate.into()));
        bucket.reserve(MAXIMUM_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_then_requests_are_slowed_then_refused() {
        let throttle = Throttle::new([("Run", 4), ("Suspend", 2), ("Get", 0)]);
        let (one, other) = (AccountId::from_stored("1"), AccountId::from_stored("2"));
        let millis = |account, name| throttle.delay(account, name).map(|delay| delay.as_millis());
        let delays: Vec<_> = (0..8).filter_map(|_| millis(&one, "Run")).collect();
        assert_eq!(delays, [0, 0, 0, 0, 250, 500, 750, 1000]);
        assert_eq!(millis(&one, "Run"), None);
        assert_eq!(millis(&other, "Run"), Some(0), "accounts do not share");
        assert_eq!(millis(&one, "Suspend"), Some(0), "nor do rates");
        advance(Duration::from_secs(1)).await;
        assert_eq!(millis(&one, "Run"), Some(250), "a refused request takes no token");
        advance(Duration::from_mins(1)).await;
        assert_eq!(millis(&one, "Run"), Some(0));
        assert!((0..1000).all(|_| millis(&one, "Get") == Some(0)), "0 is no limit");
    }
}
