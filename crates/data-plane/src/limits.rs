//! What one microVM may take of the endpoints, by its size (docs/endpoint.md, "Limits"), so that
//! the traffic of one does not keep out another's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hearth_api::MicrovmId;
use hearth_rate::Bucket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::refusal::Refusal;
use crate::shares::{Moved, Shares};

/// How long a request waits for one of the connections that there may be to apps.
const APP_CONNECTION_WAIT: Duration = Duration::from_secs(5);

/// Limits per vCPU at peak; the service's sizes have a vCPU for each 512 MiB of their
/// baseline. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MicrovmLimits {
    /// Client connections at a time.
    pub connections: Option<u32>,
    /// Requests per second; as many may come at once after a second without any.
    pub requests_per_second: Option<u32>,
    /// Bytes per second, both directions together. More is held back, not refused.
    pub bytes_per_second: Option<u64>,
    /// Whether microVMs that want more bytes than can be moved get as much of them each.
    pub fair_shares: bool,
}

impl MicrovmLimits {
    /// The service's: 8 connections (quotas), 10 requests per second (published for
    /// two sizes), 1 MB/s.
    pub const SERVICE: Self = Self {
        connections: Some(8),
        requests_per_second: Some(10),
        bytes_per_second: Some(1_000_000),
        fair_shares: false,
    };
    /// None by size; microVMs have equal shares of what there is.
    pub const FAIR: Self = Self { fair_shares: true, ..Self::NONE };
    /// None.
    pub const NONE: Self =
        Self { connections: None, requests_per_second: None, bytes_per_second: None, fair_shares: false };
}

/// What every microVM takes at present.
#[derive(Debug)]
pub(crate) struct Usages {
    limits: MicrovmLimits,
    /// Connections that there may be to the apps of all microVMs.
    app_connections: Arc<Semaphore>,
    app_connections_max: usize,
    shares: Option<Arc<Shares>>,
    by_microvm: ByMicrovm,
}

#[derive(Debug, Clone, Default)]
struct ByMicrovm(Arc<Mutex<HashMap<MicrovmId, Weak<Usage>>>>);

/// What one microVM takes; shared by all connections of its clients and to its app.
#[derive(Debug)]
pub(crate) struct Usage {
    connections: AtomicU32,
    connections_max: u32,
    requests: Option<Bucket>,
    bytes: Option<Bucket>,
    /// With those of all, when they have equal shares.
    shares: Option<(Arc<Shares>, ByMicrovm)>,
    moved: Moved,
    app_connections: Arc<Semaphore>,
    all_app_connections: Arc<Semaphore>,
}

/// A client connection that counts for a microVM while this lives.
#[derive(Debug)]
pub(crate) struct Counting(Arc<Usage>);

/// The right to have one connection to an app.
#[derive(Debug)]
pub(crate) struct AppPermit {
    _of_microvm: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Usages {
    /// With no more connections to apps than this; one microVM may have half of them.
    pub(crate) fn new(limits: MicrovmLimits, app_connections: usize) -> Self {
        let app_connections_max = app_connections.clamp(2, Semaphore::MAX_PERMITS);
        Self {
            limits,
            app_connections: Arc::new(Semaphore::new(app_connections_max)),
            app_connections_max,
            shares: limits.fair_shares.then(|| Arc::new(Shares::new())),
            by_microvm: ByMicrovm::default(),
        }
    }

    /// What a microVM with `vcpus` vCPUs at peak takes.
    pub(crate) fn of(&self, microvm: &MicrovmId, vcpus: u8) -> Arc<Usage> {
        let mut by_microvm = self.by_microvm.lock();
        if let Some(usage) = by_microvm.get(microvm).and_then(Weak::upgrade) {
            return usage;
        }
        if by_microvm.len() == by_microvm.capacity() {
            by_microvm.retain(|_, usage| usage.strong_count() > 0);
        }
        let usage = Arc::new(Usage::new(self, u32::from(vcpus)));
        by_microvm.insert(microvm.clone(), Arc::downgrade(&usage));
        usage
    }

    /// Whether requests wait for a while before they are refused.
    pub(crate) fn are_patient(&self) -> bool {
        self.limits.fair_shares
    }
}

impl ByMicrovm {
    fn lock(&self) -> MutexGuard<'_, HashMap<MicrovmId, Weak<Usage>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each has moved in the period that is over.
    fn take_moved(&self) -> Vec<u64> {
        self.lock().values().filter_map(Weak::upgrade).map(|usage| usage.moved.take()).collect()
    }
}

impl Usage {
    fn new(usages: &Usages, vcpus: u32) -> Self {
        let limits = &usages.limits;
        let bucket = |per_vcpu: Option<u64>| per_vcpu.map(|rate| Bucket::new(rate * u64::from(vcpus)));
        Self {
            connections: AtomicU32::new(0),
            connections_max: limits.connections.map_or(u32::MAX, |per_vcpu| per_vcpu.saturating_mul(vcpus)),
            requests: bucket(limits.requests_per_second.map(u64::from)),
            bytes: bucket(limits.bytes_per_second),
            shares: usages.shares.clone().map(|shares| (shares, usages.by_microvm.clone())),
            moved: Moved::default(),
            app_connections: Arc::new(Semaphore::new(usages.app_connections_max / 2)),
            all_app_connections: Arc::clone(&usages.app_connections),
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
        let by_size = self.bytes.as_ref().map_or(Duration::ZERO, |bytes| bytes.debit(count));
        let Some((shares, all)) = &self.shares else { return by_size };
        by_size.max(shares.count(&self.moved, count, || all.take_moved()))
    }

    /// The right to connect to the app; waits for a moment when there are as many
    /// connections as there may be.
    pub(crate) async fn app_connection(&self) -> Result<AppPermit, Refusal> {
        let acquiring = async {
            let of_microvm = Arc::clone(&self.app_connections).acquire_owned().await;
            (of_microvm, Arc::clone(&self.all_app_connections).acquire_owned().await)
        };
        match timeout(APP_CONNECTION_WAIT, acquiring).await {
            Ok((Ok(of_microvm), Ok(of_all))) => Ok(AppPermit { _of_microvm: of_microvm, _of_all: of_all }),
            _ => Err(Refusal::TooManyRequests),
        }
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
        let usages = Usages::new(MicrovmLimits { connections: Some(1), ..MicrovmLimits::NONE }, 64);
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
        let usages = Usages::new(MicrovmLimits::SERVICE, 64);
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
        let usages = Usages::new(MicrovmLimits::NONE, 64);
        for number in 0..10_000 {
            usages.of(&MicrovmId::from_stored(number.to_string()), 1).request().unwrap();
        }
        assert!(usages.by_microvm.lock().len() < 5000);
    }

    #[tokio::test(start_paused = true)]
    async fn one_microvm_cannot_have_all_connections_to_apps() {
        let usages = Usages::new(MicrovmLimits::NONE, 4);
        let (a, b) = (usages.of(&MicrovmId::from_stored("a"), 1), usages.of(&MicrovmId::from_stored("b"), 1));
        let first = a.app_connection().await.unwrap();
        let _second = a.app_connection().await.unwrap();
        assert_eq!(a.app_connection().await.unwrap_err(), Refusal::TooManyRequests);
        let _others = [b.app_connection().await.unwrap(), b.app_connection().await.unwrap()];
        drop(first);
        a.app_connection().await.unwrap();
    }
}
