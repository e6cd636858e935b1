//! What one microVM may take of the endpoints, by its size (behaviour.md section 3, "Limits"), so that the traffic of one does
//! not keep out another's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hearth_api::MicrovmId;

use crate::bucket::Bucket;
use crate::refusal::Refusal;

/// Limits per vCPU at peak; the service's sizes have a vCPU for each 512 MiB of their baseline. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MicrovmLimits {
    /// Client connections at a time.
    pub connections: Option<u32>,
    /// Requests per second; as many may come at once after a second without any.
    pub requests_per_second: Option<u32>,
    /// Bytes per second, both directions together. More is held back, not refused.
    pub bytes_per_second: Option<u64>,
}

impl MicrovmLimits {
    /// The service's: 8 connections (quotas), 10 requests per second (published for two sizes), 1 MB/s.
    pub const SERVICE: Self =
        Self { connections: Some(8), requests_per_second: Some(10), bytes_per_second: Some(1_000_000) };
    /// None.
    pub const NONE: Self = Self { connections: None, requests_per_second: None, bytes_per_second: None };
}

/// What every microVM takes at present.
#[derive(Debug)]
pub(crate) struct Usages {
    limits: MicrovmLimits,
    by_microvm: Mutex<HashMap<MicrovmId, Weak<Usage>>>,
}

/// What one microVM takes; shared by all connections of its clients and to its app.
#[derive(Debug)]
pub(crate) struct Usage {
    connections: AtomicU32,
    connections_max: u32,
    requests: Option<Bucket>,
    bytes: Option<Bucket>,
}

/// A client connection that counts for a microVM while this lives.
#[derive(Debug)]
pub(crate) struct Counting(Arc<Usage>);

impl Usages {
    pub(crate) fn new(limits: MicrovmLimits) -> Self {
        Self { limits, by_microvm: Mutex::default() }
    }

    /// What a microVM with so many vCPUs takes.
    pub(crate) fn of(&self, microvm: &MicrovmId, vcpus: u8) -> Arc<Usage> {
        let mut by_microvm = self.by_microvm.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = by_microvm.get(microvm).and_then(Weak::upgrade) {
            return usage;
        }
        if by_microvm.len() == by_microvm.capacity() {
            by_microvm.retain(|_, usage| usage.strong_count() > 0);
        }
        let usage = Arc::new(Usage::new(&self.limits, u32::from(vcpus)));
        by_microvm.insert(microvm.clone(), Arc::downgrade(&usage));
        usage
    }
}

impl Usage {
    fn new(limits: &MicrovmLimits, vcpus: u32) -> Self {
        let bucket = |per_vcpu: Option<u64>| per_vcpu.map(|rate| Bucket::new(rate * u64::from(vcpus)));
        Self {
            connections: AtomicU32::new(0),
            connections_max: limits.connections.map_or(u32::MAX, |per_vcpu| per_vcpu.saturating_mul(vcpus)),
            requests: bucket(limits.requests_per_second.map(u64::from)),
            bytes: bucket(limits.bytes_per_second),
        }
    }

    /// Counts a connection, if one more is allowed.
    pub(crate) fn connection(self: &Arc<Self>) -> Result<Counting, Refusal> {
        let more = |count| Some(count + 1).filter(|count| *count <= self.connections_max);
        match self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Counting(Arc::clone(self))),
            Err(_) => Err(Refusal::TooManyRequests),
        }
    }

    /// Counts a request, if one more is allowed.
    pub(crate) fn request(&self) -> Result<(), Refusal> {
        let allowed = self.requests.as_ref().is_none_or(Bucket::take);
        if allowed { Ok(()) } else { Err(Refusal::TooManyRequests) }
    }

    /// Counts bytes; how long the connection that they went over must rest.
    pub(crate) fn bytes(&self, count: u64) -> Duration {
        self.bytes.as_ref().map_or(Duration::ZERO, |bytes| bytes.debit(count))
    }
}

impl Counting {
    pub(crate) fn usage(&self) -> &Usage {
        &self.0
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_are_counted_while_they_live_for_each_microvm() {
        let usages = Usages::new(MicrovmLimits { connections: Some(1), ..MicrovmLimits::NONE });
        let (a, b) = (MicrovmId::from_stored("a"), MicrovmId::from_stored("b"));
        let first = usages.of(&a, 2).connection().unwrap();
        let _second = usages.of(&a, 2).connection().unwrap();
        assert!(matches!(usages.of(&a, 2).connection(), Err(Refusal::TooManyRequests)));
        let _other = usages.of(&b, 2).connection().unwrap();
        drop(first);
        let _third = usages.of(&a, 2).connection().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_service_s_limits_grow_with_the_size() {
        let usages = Usages::new(MicrovmLimits::SERVICE);
        for (vcpus, allowed) in [(1, 10), (4, 40), (16, 160)] {
            let usage = usages.of(&MicrovmId::from_stored(vcpus.to_string()), vcpus);
            let passed = (0..1000).filter(|_| usage.request().is_ok()).count();
            assert_eq!(passed, allowed);
            assert_eq!(usage.connections_max, u32::from(vcpus) * 8);
            assert_eq!(usage.bytes(u64::from(vcpus) * 1_000_000), Duration::ZERO);
            assert_eq!(usage.bytes(u64::from(vcpus) * 500_000), Duration::from_millis(500));
        }
    }

    #[tokio::test]
    async fn microvms_without_traffic_are_forgotten() {
        let usages = Usages::new(MicrovmLimits::NONE);
        for number in 0..10_000 {
            usages.of(&MicrovmId::from_stored(number.to_string()), 1).request().unwrap();
        }
        assert!(usages.by_microvm.lock().unwrap().len() < 5000);
    }
}
