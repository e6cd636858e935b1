//! What a connection is doing: whether a request is under way on it, and since when none is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What one connection is doing. Every request changes it, so nobody else's lock is taken; clones
/// share it.
#[derive(Debug, Clone)]
pub struct Activity(Arc<State>);

#[derive(Debug)]
struct State {
    since: Instant,
    /// Requests under way.
    busy: AtomicU32,
    /// When the last one ended, in milliseconds after `since`.
    idle_since: AtomicU64,
}

/// A request that is under way on a connection until this is dropped.
#[derive(Debug)]
pub struct Busy(Activity);

impl Activity {
    /// Of a connection that begins now, idle.
    pub fn begin() -> Self {
        let state = State { since: Instant::now(), busy: AtomicU32::new(0), idle_since: AtomicU64::new(0) };
        Self(Arc::new(state))
    }

    /// A request begins.
    pub fn request(&self) -> Busy {
        self.0.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Whether no request is under way.
    pub fn is_idle(&self) -> bool {
        self.0.busy.load(Ordering::Relaxed) == 0
    }

    /// A number that is another one after a request has ended: so one that lasts is told from many.
    pub fn last_end(&self) -> u64 {
        self.0.idle_since.load(Ordering::Relaxed)
    }

    /// How long it has been so.
    pub fn idle_for(&self) -> Duration {
        let idle_since = Duration::from_millis(self.0.idle_since.load(Ordering::Relaxed));
        self.0.since.elapsed().saturating_sub(idle_since)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Activity(state) = &self.0;
        let now = state.since.elapsed().as_millis() as u64;
        state.idle_since.store(now, Ordering::Relaxed);
        state.busy.fetch_sub(1, Ordering::Relaxed);
    }
}
