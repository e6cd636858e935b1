//! The places for connections to the API, and which of them give way.
//!
//! A client takes a place before anything is known of it. A connection without a request under way, whatever it has
//! asked before, is cut when its place is needed, the one first that has been without for longest: clients of AWS open another.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_data_plane::Activity;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// For how long a connection without a request keeps its place in any case.
const GRACE: Duration = Duration::from_secs(2);
/// Between two looks for one that gives way, while there is none that could.
const PAUSE: Duration = Duration::from_millis(50);

/// A limited number of places; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
}

/// The connections that have a place, but for those that were told to give it up.
#[derive(Debug, Default)]
struct Taken {
    next_number: u64,
    connections: HashMap<u64, (Activity, CancellationToken)>,
}

/// The place of one connection, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Arc<Mutex<Taken>>,
    needed: CancellationToken,
    number: u64,
    activity: Activity,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new(all: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(all)), taken: Arc::default() }
    }

    /// Takes a place; waits while there is none that could be made free.
    pub(crate) async fn take(&self) -> Place {
        loop {
            if self.free.available_permits() == 0 {
                self.make_room();
            }
            if let Ok(Ok(permit)) = timeout(PAUSE, Arc::clone(&self.free).acquire_owned()).await {
                return self.place(permit);
            }
        }
    }

    fn place(&self, permit: OwnedSemaphorePermit) -> Place {
        let (needed, activity) = (CancellationToken::new(), Activity::begin());
        let mut taken = lock(&self.taken);
        let number = taken.next_number;
        taken.next_number += 1;
        taken.connections.insert(number, (activity.clone(), needed.clone()));
        Place { taken: Arc::clone(&self.taken), needed, number, activity, _permit: permit }
    }

    fn make_room(&self) {
        let mut taken = lock(&self.taken);
        let idle = taken.connections.iter().filter(|(_, (activity, _))| activity.is_idle());
        let longest = idle.map(|(number, (activity, _))| (activity.idle_for(), Reverse(*number))).max();
        if let Some((idle_for, Reverse(number))) = longest
            && idle_for >= GRACE
            && let Some((_, needed)) = taken.connections.remove(&number)
        {
            needed.cancel();
        }
    }
}

impl Place {
    /// Cancelled when the connection has to give way.
    pub(crate) fn needed(&self) -> &CancellationToken {
        &self.needed
    }

    /// Whether a request is under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.activity.is_idle()
    }

    /// What the connection is doing, to be told of its requests.
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).connections.remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    async fn next(places: &Places) -> Option<Place> {
        timeout(PAUSE / 2, places.take()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_without_a_request_for_longest_gives_way() {
        let places = Places::new(3);
        let (busy, first, second) = (places.take().await, places.take().await, places.take().await);
        let work = busy.activity().request();
        advance(Duration::from_millis(1)).await;
        drop(first.activity().request());
        assert!(next(&places).await.is_none(), "all are within their grace");
        advance(GRACE).await;
        assert!(next(&places).await.is_none(), "it is told, and has not gone yet");
        assert!(second.needed().is_cancelled() && !first.needed().is_cancelled());
        drop(second);
        let third = next(&places).await.unwrap();
        assert!(next(&places).await.is_none());
        assert!(
            first.needed().is_cancelled() && !busy.needed().is_cancelled() && !third.needed().is_cancelled()
        );
        drop((work, first, busy, third));
        assert!(lock(&places.taken).connections.is_empty(), "who has gone is forgotten");
        assert_eq!(places.free.available_permits(), 3);
    }
}
