//! The places for connections to the API, and which of them give way.
//!
//! A client takes a place before anything is known of it. A connection without a request under way, whatever it has
//! asked before, is cut when its place is needed, the one first that has been without for longest: clients of AWS open another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// For how long a connection without a request keeps its place in any case.
const GRACE: Duration = Duration::from_secs(2);
/// Between two looks for one that gives way, while there is none that could.
const PAUSE: Duration = Duration::from_millis(50);

/// A limited number of places; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    idle: Arc<Mutex<Idle>>,
}

/// Connections without a request, in the order in which they have been so.
#[derive(Debug, Default)]
struct Idle {
    next_number: u64,
    connections: BTreeMap<u64, (Instant, CancellationToken)>,
}

/// The place of one connection, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    idle: Arc<Mutex<Idle>>,
    needed: CancellationToken,
    /// Under which number it stands among the idle ones.
    number: Mutex<Option<u64>>,
    _permit: OwnedSemaphorePermit,
}

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Place>);

impl Places {
    pub(crate) fn new(all: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(all)), idle: Arc::default() }
    }

    /// Takes a place; waits while there is none that could be made free.
    pub(crate) async fn take(&self) -> Arc<Place> {
        loop {
            if self.free.available_permits() == 0 {
                self.make_room();
            }
            if let Ok(Ok(permit)) = timeout(PAUSE, Arc::clone(&self.free).acquire_owned()).await {
                let place = Arc::new(Place {
                    idle: Arc::clone(&self.idle),
                    needed: CancellationToken::new(),
                    number: Mutex::default(),
                    _permit: permit,
                });
                place.rest();
                return place;
            }
        }
    }

    fn make_room(&self) {
        let mut idle = lock(&self.idle);
        if let Some(oldest) = idle.connections.first_entry()
            && oldest.get().0.elapsed() >= GRACE
        {
            oldest.remove().1.cancel();
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
        lock(&self.number).is_none()
    }

    /// A request begins.
    pub(crate) fn work(self: &Arc<Self>) -> Busy {
        if let Some(number) = lock(&self.number).take() {
            lock(&self.idle).connections.remove(&number);
        }
        Busy(Arc::clone(self))
    }

    fn rest(&self) {
        let mut idle = lock(&self.idle);
        let number = idle.next_number;
        idle.next_number += 1;
        idle.connections.insert(number, (Instant::now(), self.needed.clone()));
        *lock(&self.number) = Some(number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.rest();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(number) = lock(&self.number).take() {
            lock(&self.idle).connections.remove(&number);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    async fn next(places: &Places) -> Option<Arc<Place>> {
        timeout(PAUSE / 2, places.take()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_without_a_request_for_longest_gives_way() {
        let places = Places::new(3);
        let (busy, first, second) = (places.take().await, places.take().await, places.take().await);
        let work = busy.work();
        drop(first.work());
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
        assert!(lock(&places.idle).connections.is_empty(), "who has gone is forgotten");
        assert_eq!(places.free.available_permits(), 3);
    }
}
