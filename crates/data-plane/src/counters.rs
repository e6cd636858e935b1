//! What has gone through each endpoint since the server started: kept in memory, read by operators.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hearth_api::{EndpointCounters, MicrovmId, Timestamp};

/// The counters of all microVMs that were asked anything.
#[derive(Debug)]
pub struct Counters {
    started: Timestamp,
    by_microvm: RwLock<HashMap<MicrovmId, Arc<MicrovmCounters>>>,
}

/// Those of one microVM.
#[derive(Debug)]
pub(crate) struct MicrovmCounters {
    since: Timestamp,
    requests: AtomicU64,
    errors: AtomicU64,
    resume_waits: AtomicU64,
    resume_wait_microseconds: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self { started: Timestamp::now(), by_microvm: RwLock::default() }
    }
}

impl Counters {
    /// What is counted of a microVM so far.
    pub fn of(&self, microvm: &MicrovmId) -> EndpointCounters {
        let by_microvm = self.by_microvm.read().unwrap_or_else(PoisonError::into_inner);
        match by_microvm.get(microvm) {
            Some(counters) => counters.read(),
            None => MicrovmCounters::new(self.started).read(),
        }
    }

    /// Forgets the microVMs that are not `known` any more.
    pub fn retain(&self, known: impl Fn(&MicrovmId) -> bool) {
        let ids: Vec<MicrovmId> = {
            let by_microvm = self.by_microvm.read().unwrap_or_else(PoisonError::into_inner);
            by_microvm.keys().cloned().collect()
        };
        let gone: Vec<MicrovmId> = ids.into_iter().filter(|id| !known(id)).collect();
        let mut by_microvm = self.by_microvm.write().unwrap_or_else(PoisonError::into_inner);
        for id in gone {
            by_microvm.remove(&id);
        }
    }

    pub(crate) fn entry(&self, microvm: &MicrovmId) -> Arc<MicrovmCounters> {
        if let Some(found) = self.by_microvm.read().unwrap_or_else(PoisonError::into_inner).get(microvm) {
            return Arc::clone(found);
        }
        let mut by_microvm = self.by_microvm.write().unwrap_or_else(PoisonError::into_inner);
        let made = || Arc::new(MicrovmCounters::new(Timestamp::now()));
        Arc::clone(by_microvm.entry(microvm.clone()).or_insert_with(made))
    }
}

impl MicrovmCounters {
    fn new(since: Timestamp) -> Self {
        Self {
            since,
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            resume_waits: AtomicU64::new(0),
            resume_wait_microseconds: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }

    fn read(&self) -> EndpointCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EndpointCounters {
            since: self.since,
            requests: get(&self.requests),
            errors: get(&self.errors),
            resume_waits: get(&self.resume_waits),
            resume_wait_milliseconds: get(&self.resume_wait_microseconds) / 1000,
            bytes_in: get(&self.bytes_in),
            bytes_out: get(&self.bytes_out),
        }
    }

    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn resume_wait(&self, duration: Duration) {
        self.resume_waits.fetch_add(1, Ordering::Relaxed);
        self.resume_wait_microseconds.fetch_add(duration.as_micros() as u64, Ordering::Relaxed);
    }

    pub(crate) fn bytes_in(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn bytes_out(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_microvm_is_counted_until_it_is_gone() {
        let counters = Counters::default();
        let (a, b) = (MicrovmId::from_stored("microvm-a"), MicrovmId::from_stored("microvm-b"));
        assert_eq!(counters.of(&a).requests, 0);
        let entry = counters.entry(&a);
        entry.request();
        entry.resume_wait(Duration::from_micros(1500));
        entry.resume_wait(Duration::from_micros(700));
        counters.entry(&a).bytes_in(5);
        counters.entry(&b).bytes_out(7);
        let (of_a, of_b) = (counters.of(&a), counters.of(&b));
        assert_eq!((of_a.requests, of_a.bytes_in, of_a.bytes_out), (1, 5, 0));
        assert_eq!((of_a.resume_waits, of_a.resume_wait_milliseconds), (2, 2));
        assert_eq!((of_b.requests, of_b.bytes_out), (0, 7));
        counters.retain(|id| *id == b);
        assert_eq!((counters.of(&a).bytes_in, counters.of(&b).bytes_out), (0, 7));
    }
}
