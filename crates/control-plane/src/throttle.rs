//! Requests per second, per account and operation. Like the service, this slows a caller who is a
//! little too fast and refuses one who is much too fast.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hearth_api::{AccountId, Error, ErrorKind};
use serde::Deserialize;
use tokio::time::Instant;

/// Longest time that a request is held back.
const MAXIMUM_DELAY: Duration = Duration::from_secs(1);

/// Requests per second, which is also how many may come at once; 0 is no limit. The defaults are
/// the service's ("Lambda quotas", section MicroVMs).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each is named after its operation")]
pub struct Rates {
    pub run_microvm: u32,
    pub resume_microvm: u32,
    pub suspend_microvm: u32,
    pub terminate_microvm: u32,
    pub get_microvm: u32,
    pub create_microvm_auth_token: u32,
    pub create_microvm_shell_auth_token: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            run_microvm: 5,
            resume_microvm: 5,
            suspend_microvm: 2,
            terminate_microvm: 10,
            get_microvm: 100,
            create_microvm_auth_token: 50,
            create_microvm_shell_auth_token: 5,
        }
    }
}

/// Operations that have a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Throttled {
    Run,
    Resume,
    Suspend,
    Terminate,
    Get,
    AuthToken,
    ShellAuthToken,
}

/// The token buckets, each as the moment when it will be full again (the generic cell rate
/// algorithm, ITU-T I.371).
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    rates: Rates,
    full_at: Mutex<HashMap<(AccountId, Throttled), Instant>>,
}

impl Throttle {
    pub(crate) fn new(rates: Rates) -> Self {
        Self { rates, full_at: Mutex::default() }
    }

    /// Returns when the request may go on.
    pub(crate) async fn admit(&self, account: &AccountId, operation: Throttled) -> Result<(), Error> {
        let delay = self.delay(account, operation, Instant::now());
        if delay > MAXIMUM_DELAY {
            return Err(Error::new(ErrorKind::Throttling, "Rate exceeded"));
        }
        // Even to sleep for no time takes until the timer's next millisecond.
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    /// How long a request that comes `now` has to wait. One that has to wait too
    /// long takes no token.
    fn delay(&self, account: &AccountId, operation: Throttled, now: Instant) -> Duration {
        let rate = self.rate(operation);
        if rate == 0 {
            return Duration::ZERO;
        }
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = full_at.entry((account.clone(), operation)).or_insert(now);
        let after = (*full_at).max(now) + Duration::from_secs(1) / rate;
        // A whole bucket takes a second to fill, whatever the rate.
        let delay = after.duration_since(now).saturating_sub(Duration::from_secs(1));
        if delay <= MAXIMUM_DELAY {
            *full_at = after;
        }
        delay
    }

    fn rate(&self, operation: Throttled) -> u32 {
        match operation {
            Throttled::Run => self.rates.run_microvm,
            Throttled::Resume => self.rates.resume_microvm,
            Throttled::Suspend => self.rates.suspend_microvm,
            Throttled::Terminate => self.rates.terminate_microvm,
            Throttled::Get => self.rates.get_microvm,
            Throttled::AuthToken => self.rates.create_microvm_auth_token,
            Throttled::ShellAuthToken => self.rates.create_microvm_shell_auth_token,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_requests_are_slowed_then_refused() {
        let throttle = Throttle::new(Rates { run_microvm: 4, get_microvm: 0, ..Rates::default() });
        let (one, other) = (AccountId::from_stored("1"), AccountId::from_stored("2"));
        let begin = Instant::now();
        let at =
            |account, seconds| throttle.delay(account, Throttled::Run, begin + Duration::from_secs(seconds));
        let delays: Vec<u64> = (0..9).map(|_| at(&one, 0).as_millis() as u64).collect();
        assert_eq!(delays, [0, 0, 0, 0, 250, 500, 750, 1000, 1250]);
        assert_eq!(at(&one, 0), Duration::from_millis(1250), "a refused request takes no token");
        assert_eq!(at(&other, 0), Duration::ZERO, "accounts do not share");
        assert_eq!(throttle.delay(&one, Throttled::Suspend, begin), Duration::ZERO, "nor do operations");
        assert_eq!(at(&one, 1), Duration::from_millis(250));
        assert_eq!(at(&one, 60), Duration::ZERO);
        assert!((0..1000).all(|_| throttle.delay(&one, Throttled::Get, begin).is_zero()), "0 is no limit");
    }
}
