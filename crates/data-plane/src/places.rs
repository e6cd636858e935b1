//! The places for client connections, and who gives up his when there are none left.
//!
//! Whoever connects takes a place before anything is known of him. So that nobody can keep others out by connecting and being
//! slow, a connection that has shown no good token is cut when its place is needed, the oldest first.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// For how long a connection keeps its place in any case: clients that come in a rush, each with a token, get their turn.
const GRACE: Duration = Duration::from_secs(2);

/// A limited number of places; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    maximum: usize,
    state: Mutex<State>,
    /// A place has become free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    next_number: u64,
    /// Those that have shown no good token, in their order of arrival.
    unproven: BTreeMap<u64, (Instant, CancellationToken)>,
}

/// The place of one connection, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    number: u64,
    needed: CancellationToken,
    /// A good token has been shown: nothing is left to be noted of the requests that follow.
    is_proven: AtomicBool,
}

impl Places {
    pub(crate) fn new(maximum: usize) -> Self {
        Self(Arc::new(Inner { maximum, state: Mutex::default(), freed: Notify::new() }))
    }

    /// Takes a place; waits while there is none that anybody could be made to give up.
    pub(crate) async fn take(&self) -> Place {
        loop {
            let freed = self.0.freed.notified();
            let oldest = {
                let mut state = self.lock();
                if state.taken < self.0.maximum {
                    return self.taken(&mut state);
                }
                let oldest = state.unproven.first_entry();
                oldest.and_then(|oldest| {
                    let over_at = oldest.get().0 + GRACE;
                    if over_at > Instant::now() {
                        return Some(over_at);
                    }
                    oldest.remove().1.cancel();
                    None
                })
            };
            match oldest {
                Some(over_at) => tokio::select! {
                    () = freed => {}
                    () = sleep_until(over_at) => {}
                },
                None => freed.await,
            }
        }
    }

    fn taken(&self, state: &mut State) -> Place {
        let (number, needed) = (state.next_number, CancellationToken::new());
        state.taken += 1;
        state.next_number += 1;
        state.unproven.insert(number, (Instant::now(), needed.clone()));
        Place { places: self.clone(), number, needed, is_proven: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// It is kept from now on: whose it is has shown a good token.
    pub(crate) fn keep(&self) {
        if !self.is_proven.swap(true, Ordering::Relaxed) {
            self.places.lock().unproven.remove(&self.number);
        }
    }

    /// Cancelled when somebody else needs it.
    pub(crate) fn needed(&self) -> CancellationToken {
        self.needed.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        state.taken -= 1;
        state.unproven.remove(&self.number);
        drop(state);
        self.places.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    /// Whether a place can be had while `place`'s holder gives it up if it is needed.
    async fn needs(places: &Places, place: Place) -> Place {
        let holder = async {
            place.needed().cancelled().await;
            drop(place);
        };
        tokio::join!(places.take(), holder).0
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_without_a_token_gives_up_its_place() {
        let places = Places::new(3);
        let (kept, oldest, other) = (places.take().await, places.take().await, places.take().await);
        kept.keep();
        let began = Instant::now();
        let fourth = needs(&places, oldest).await;
        assert_eq!(began.elapsed(), GRACE, "everybody has a moment to show a token");
        assert!(!kept.needed.is_cancelled() && !other.needed.is_cancelled());
        // The next is not the one who came last.
        let fifth = needs(&places, other).await;
        assert!(!fourth.needed.is_cancelled());
        assert_eq!(places.lock().taken, 3);
        drop((kept, fourth, fifth));
        let state = places.lock();
        assert_eq!((state.taken, state.unproven.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_shown_a_token_keeps_its_place() {
        let places = Places::new(1);
        let kept = places.take().await;
        kept.keep();
        advance(GRACE * 10).await;
        assert!(timeout(GRACE * 10, places.take()).await.is_err());
        assert!(!kept.needed.is_cancelled());
        drop(kept);
        places.take().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_becomes_free_is_taken_at_once() {
        let places = Places::new(2);
        let (first, _second) = (places.take().await, places.take().await);
        let began = Instant::now();
        let leaving = async { drop(first) };
        let (third, ()) = tokio::join!(places.take(), leaving);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(!third.needed.is_cancelled());
    }
}
