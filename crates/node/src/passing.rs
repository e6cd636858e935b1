//! The requests that are under way to and from an app, for which a suspend waits.
//!
//! A request that has begun when its microVM is suspended would be lost with its connection,
//! or delivered without an answer. So a suspend first closes the door, and then lets those
//! finish that are inside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Longest time for which a suspend waits for requests under way.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How long a suspend waits for answers that have begun and of which nothing comes: streams
/// of events have no end.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// No request may begin any more.
const CLOSED: u64 = 1 << 63;
/// One request whose answer has not begun; the lower half of the number counts all requests.
const UNANSWERED: u64 = 1 << 32;
const COUNT_MASK: u64 = UNANSWERED - 1;

/// The requests of one life of a microVM; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Requests(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// [`CLOSED`], those unanswered, and all of them, in one number.
    counts: AtomicU64,
    /// Something has changed after the door was closed.
    changed: Notify,
}

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub struct Passing {
    requests: Requests,
    answered: bool,
}

impl Requests {
    /// Begins a request; `None` when the microVM is being suspended.
    pub fn enter(&self) -> Option<Passing> {
        let before = self.0.counts.fetch_add(1 + UNANSWERED, Ordering::SeqCst);
        // Dropped at once, it takes back what it counts.
        let passing = Passing { requests: self.clone(), answered: false };
        (before & CLOSED == 0).then_some(passing)
    }

    /// Lets no more requests begin, and waits for those under way. `last_traffic` tells when
    /// their last byte came.
    pub async fn drain(&self, last_traffic: impl Fn() -> Instant) {
        self.0.counts.fetch_or(CLOSED, Ordering::SeqCst);
        let began = Instant::now();
        loop {
            let changed = self.0.changed.notified();
            let counts = self.0.counts.load(Ordering::SeqCst) & !CLOSED;
            if counts & COUNT_MASK == 0 {
                return;
            }
            let quiet = last_traffic().max(began) + QUIET_MAX;
            let longest = began + DRAIN_MAX;
            let until = if counts < UNANSWERED { quiet.min(longest) } else { longest };
            if until <= Instant::now() {
                tracing::info!(requests = counts & COUNT_MASK, "a suspend cuts requests that take too long");
                return;
            }
            tokio::select! {
                () = changed => {}
                () = sleep_until(until) => {}
            }
        }
    }

    fn less(&self, counts: u64) {
        let before = self.0.counts.fetch_sub(counts, Ordering::SeqCst);
        if before & CLOSED != 0 {
            self.0.changed.notify_one();
        }
    }
}

impl Passing {
    /// The answer has begun.
    pub fn answered(&mut self) {
        if !std::mem::replace(&mut self.answered, true) {
            self.requests.less(UNANSWERED);
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.requests.less(if self.answered { 1 } else { 1 + UNANSWERED });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn drained(requests: &Requests) -> Duration {
        let began = Instant::now();
        requests.drain(|| began).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspend_waits_for_requests_under_way_and_lets_none_begin() {
        let requests = Requests::default();
        let mut first = requests.enter().unwrap();
        let second = requests.enter().unwrap();
        let answering = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert!(requests.enter().is_none());
            first.answered();
            drop(first);
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(second);
        };
        assert_eq!(tokio::join!(drained(&requests), answering).0, Duration::from_secs(6));
        assert!(requests.enter().is_none());
        assert_eq!(drained(&requests).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspend_does_not_wait_for_ever() {
        let requests = Requests::default();
        let mut endless = requests.enter().unwrap();
        assert_eq!(drained(&requests).await, DRAIN_MAX);
        endless.answered();
        assert_eq!(drained(&requests).await, QUIET_MAX);
        let began = Instant::now();
        requests.drain(Instant::now).await;
        assert_eq!(began.elapsed(), DRAIN_MAX, "an answer that goes on");
    }
}
