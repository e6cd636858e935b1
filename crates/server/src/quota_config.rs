//! `[quotas]`: how much an account may have, and what the host keeps.

use hearth_control_plane::Rates;
use hearth_quotas_api::QuotaValues;
use hearth_records::{Limits, LogQuotas, Quotas};
use hearth_s3_api::StorageLimits;
use serde::Deserialize;

/// `[quotas]`: of the account, and what the host keeps.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct QuotaConfig {
    /// Images.
    pub(crate) images: u32,
    /// Versions of an image.
    pub(crate) versions_per_image: u32,
    /// GiB that the images' versions and layer caches take on the disk; 0 is no limit.
    pub(crate) images_gib: u64,
    /// Builds that have not ended.
    pub(crate) concurrent_builds: u32,
    /// Builds that run at the same time.
    pub(crate) running_builds: Option<usize>,
    /// Pulls of base images at the same time.
    pub(crate) concurrent_pulls: usize,
    /// Disks of pulled base images.
    pub(crate) base_images_mib: u64,
    /// Baseline memory of all microVMs that have not ended.
    pub(crate) memory_mib: u64,
    /// Network connectors.
    pub(crate) network_connectors: u32,
    /// Versions of a network connector.
    pub(crate) versions_per_network_connector: u32,
    /// Longest life of a microVM; 0 is no limit.
    pub(crate) maximum_duration_seconds: u32,
    /// Memory that the host keeps available.
    pub(crate) minimum_available_memory_mib: u64,
    /// Log groups; 0 is no limit, here and below.
    pub(crate) log_groups: u32,
    /// Streams of all log groups together.
    pub(crate) log_streams: u32,
    /// MiB in all log groups together.
    pub(crate) log_mib: u64,
    /// StartLiveTail sessions at the same time.
    pub(crate) live_tail_sessions: u32,
    /// Objects, versions and unfinished uploads of an account; 0 is no limit.
    pub(crate) s3_gib: u64,
    /// Buckets of an account; 0 is no limit.
    pub(crate) s3_buckets: u32,
    /// Disk that uploads to S3 leave free, whoever makes them.
    pub(crate) minimum_free_disk_mib: u64,
}

impl QuotaConfig {
    /// What all processes on the same records go by.
    pub(crate) fn limits(&self) -> Limits {
        Limits { quotas: self.control_plane(), logs: self.logs() }
    }

    fn logs(&self) -> LogQuotas {
        LogQuotas {
            groups: Some(self.log_groups).filter(|groups| *groups > 0),
            streams: Some(self.log_streams).filter(|streams| *streams > 0),
            bytes: Some(self.log_mib << 20).filter(|bytes| *bytes > 0),
        }
    }

    fn control_plane(&self) -> Quotas {
        Quotas {
            images: self.images,
            versions_per_image: self.versions_per_image,
            concurrent_builds: self.concurrent_builds,
            memory_mib: self.memory_mib,
            network_connectors: self.network_connectors,
            versions_per_network_connector: self.versions_per_network_connector,
        }
    }

    pub(crate) fn storage_limits(&self) -> StorageLimits {
        StorageLimits {
            bytes: self.s3_gib.saturating_mul(1 << 30),
            buckets: self.s3_buckets,
            free_bytes: self.minimum_free_disk_mib.saturating_mul(1 << 20),
        }
    }

    /// What Service Quotas tells of an account that may have so many builds and pulls run at once.
    pub(crate) fn published(&self, rates: Rates, running_builds: usize, pulls: usize) -> QuotaValues {
        QuotaValues {
            memory_mib: self.memory_mib,
            images: self.images,
            versions_per_image: self.versions_per_image,
            images_gib: self.images_gib,
            concurrent_builds: self.concurrent_builds,
            running_builds: running_builds as u32,
            concurrent_pulls: pulls as u32,
            base_images_mib: self.base_images_mib,
            network_connectors: self.network_connectors,
            versions_per_network_connector: self.versions_per_network_connector,
            maximum_duration_seconds: self.maximum_duration_seconds,
            run_microvm: rates.run_microvm,
            suspend_microvm: rates.suspend_microvm,
            resume_microvm: rates.resume_microvm,
            terminate_microvm: rates.terminate_microvm,
            create_microvm_auth_token: rates.create_microvm_auth_token,
            log_groups: self.log_groups,
            log_streams: self.log_streams,
            log_mib: self.log_mib,
            live_tail_sessions: self.live_tail_sessions,
            s3_buckets: self.s3_buckets,
            s3_gib: self.s3_gib,
        }
    }
}

impl Default for QuotaConfig {
    fn default() -> Self {
        let Quotas {
            images,
            versions_per_image,
            concurrent_builds,
            memory_mib,
            network_connectors,
            versions_per_network_connector,
        } = Quotas::default();
        Self {
            images,
            versions_per_image,
            images_gib: 256,
            concurrent_builds,
            running_builds: None,
            concurrent_pulls: 2,
            base_images_mib: 64 << 10,
            memory_mib,
            network_connectors,
            versions_per_network_connector,
            maximum_duration_seconds: 28_800,
            minimum_available_memory_mib: 512,
            s3_gib: StorageLimits::default().bytes >> 30,
            s3_buckets: StorageLimits::default().buckets,
            minimum_free_disk_mib: StorageLimits::default().free_bytes >> 20,
            log_groups: 10_000,
            log_streams: 100_000,
            log_mib: 10_240,
            live_tail_sessions: 15,
        }
    }
}
