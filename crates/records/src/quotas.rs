//! Quotas: how much an account may have.

use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

/// How much an account may have in a Region; the defaults are the service's in its larger Regions
/// ("Lambda quotas", section MicroVMs).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quotas {
    /// Images.
    pub images: u32,
    /// Versions of an image, the failed ones included.
    pub versions_per_image: u32,
    /// Builds that have not ended.
    pub concurrent_builds: u32,
    /// Baseline memory in MiB of all microVMs that have not ended.
    pub memory_mib: u64,
    /// Network connectors. As many deleted ones are remembered besides.
    pub network_connectors: u32,
    /// Versions of a network connector. As many deleted ones are remembered besides.
    pub versions_per_network_connector: u32,
}

impl Default for Quotas {
    /// The numbers for network connectors are ours: the service's are not published.
    fn default() -> Self {
        Self {
            images: 100,
            versions_per_image: 50,
            concurrent_builds: 10,
            memory_mib: 1024 * 1024,
            network_connectors: 100,
            versions_per_network_connector: 50,
        }
    }
}

/// A quota that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// [`Quotas::images`].
    Images,
    /// [`Quotas::versions_per_image`].
    VersionsPerImage,
    /// [`Quotas::concurrent_builds`].
    ConcurrentBuilds,
    /// [`Quotas::memory_mib`].
    Memory,
    /// [`Quotas::network_connectors`].
    NetworkConnectors,
    /// [`Quotas::versions_per_network_connector`].
    VersionsPerNetworkConnector,
}

/// How much an account may have; `None` is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogQuotas {
    /// Log groups, deleted ones included until their lines are removed.
    pub groups: Option<u32>,
    /// Streams of all log groups, deleted ones included until their lines are removed.
    pub streams: Option<u32>,
    /// Bytes of all log groups, those of deleted groups and streams included until they are
    /// removed.
    pub bytes: Option<u64>,
}

/// A quota that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogQuota {
    /// [`LogQuotas::groups`].
    #[error("the account has {0} log groups, and more are not allowed: delete some")]
    Groups(u32),
    /// [`LogQuotas::streams`].
    #[error("the account has {0} log streams, and more are not allowed: delete some")]
    Streams(u32),
    /// [`LogQuotas::bytes`].
    #[error("the log groups of the account may hold {} MiB together: delete some, or let their events expire", .0 >> 20)]
    Bytes(u64),
}

/// All limits of an account, as [`crate::Setting::Limits`] has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// What it may have.
    pub quotas: Quotas,
    /// What of logs.
    pub logs: LogQuotas,
}

/// The limits that count now; clones share them.
#[derive(Debug, Clone, Default)]
pub struct CurrentLimits(Arc<RwLock<Limits>>);

impl CurrentLimits {
    /// These, until they are changed.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(RwLock::new(limits)))
    }

    /// A copy of them.
    pub fn get(&self) -> Limits {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts others in force, for what is asked for from now on.
    pub fn set(&self, limits: Limits) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }
}
