//! The quotas: their codes, names, units and values.

/// Codes and names of the services that have quotas here.
const LAMBDA: Service = ("lambda", "AWS Lambda");
const LOGS: Service = ("logs", "Amazon CloudWatch Logs");
const S3: Service = ("s3", "Amazon Simple Storage Service (Amazon S3)");
pub(super) const SERVICES: [Service; 3] = [LAMBDA, LOGS, S3];

/// Code and name.
pub(super) type Service = (&'static str, &'static str);
/// Stands for no limit: the largest value of the service model.
const UNLIMITED: f64 = 10_000_000_000.0;
/// The quotas of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaValues {
    /// Baseline memory in MiB of all microVMs that have not ended.
    pub memory_mib: u64,
    /// Images.
    pub images: u32,
    /// Versions of an image.
    pub versions_per_image: u32,
    /// GiB of the disk that versions of images and layer caches take; 0 is no limit.
    pub images_gib: u64,
    /// Builds that have not ended.
    pub concurrent_builds: u32,
    /// Builds that run at the same time.
    pub running_builds: u32,
    /// Pulls of base images at the same time.
    pub concurrent_pulls: u32,
    /// MiB of disks of pulled base images.
    pub base_images_mib: u64,
    /// Network connectors.
    pub network_connectors: u32,
    /// Versions of a network connector.
    pub versions_per_network_connector: u32,
    /// Seconds that a microVM may live; 0 is no limit, here and below.
    pub maximum_duration_seconds: u32,
    /// RunMicrovm per second.
    pub run_microvm: u32,
    /// SuspendMicrovm per second.
    pub suspend_microvm: u32,
    /// ResumeMicrovm per second.
    pub resume_microvm: u32,
    /// TerminateMicrovm per second.
    pub terminate_microvm: u32,
    /// CreateMicrovmAuthToken per second.
    pub create_microvm_auth_token: u32,
    /// Log groups.
    pub log_groups: u32,
    /// Streams of all log groups together.
    pub log_streams: u32,
    /// MiB in all log groups together.
    pub log_mib: u64,
    /// StartLiveTail sessions at the same time.
    pub live_tail_sessions: u32,
    /// Buckets.
    pub s3_buckets: u32,
    /// GiB of objects, versions and unfinished uploads.
    pub s3_gib: u64,
}

/// One quota: its code, its name, its unit, and which value it is.
pub(super) type Definition = (&'static str, &'static str, &'static str, fn(&QuotaValues) -> f64);

/// Codes as published ("Lambda quotas"), but for those with HEARTH in them, which are ours.
/// Operations have a rate and a burst, which are the same number here.
const DEFINITIONS: [Definition; 21] = [
    ("L-CD1C0CC4", "MicroVM memory", "Gigabytes", |values| values.memory_mib as f64 / 1024.0),
    ("L-B430C318", "MicroVM maximum duration", "Seconds", |values| limit(values.maximum_duration_seconds)),
    ("L-942E56BE", "MicroVM images", "None", |values| values.images.into()),
    ("L-F8BECE9C", "Versions per MicroVM image", "None", |values| values.versions_per_image.into()),
    ("L-HEARTHIS", "Disk of MicroVM images and their layer caches", "Gigabytes", |values| {
        limit(values.images_gib)
    }),
    ("L-72E0D058", "Concurrent MicroVM image builds", "None", |values| values.concurrent_builds.into()),
    ("L-HEARTHBR", "Running MicroVM image builds", "None", |values| values.running_builds.into()),
    ("L-HEARTHBP", "Concurrent pulls of base images", "None", |values| values.concurrent_pulls.into()),
    ("L-HEARTHBD", "Disks of pulled base images", "Megabytes", |values| values.base_images_mib as f64),
    ("L-HEARTHNC", "Network connectors", "None", |values| values.network_connectors.into()),
    ("L-HEARTHNV", "Versions per network connector", "None", |values| {
        values.versions_per_network_connector.into()
    }),
    ("L-535CA9B6", "Rate of RunMicrovm requests", "None", |values| limit(values.run_microvm)),
    ("L-91B95582", "Burst of RunMicrovm requests", "None", |values| limit(values.run_microvm)),
    ("L-90045317", "Rate of SuspendMicrovm requests", "None", |values| limit(values.suspend_microvm)),
    ("L-139F9A48", "Burst of SuspendMicrovm requests", "None", |values| limit(values.suspend_microvm)),
    ("L-118C44B3", "Rate of ResumeMicrovm requests", "None", |values| limit(values.resume_microvm)),
    ("L-25EEC0A4", "Burst of ResumeMicrovm requests", "None", |values| limit(values.resume_microvm)),
    ("L-74787B8A", "Rate of TerminateMicrovm requests", "None", |values| limit(values.terminate_microvm)),
    ("L-2CCA0501", "Burst of TerminateMicrovm requests", "None", |values| limit(values.terminate_microvm)),
    ("L-7712260B", "Rate of CreateMicrovmAuthToken requests", "None", |values| {
        limit(values.create_microvm_auth_token)
    }),
    ("L-D65D9F16", "Burst of CreateMicrovmAuthToken requests", "None", |values| {
        limit(values.create_microvm_auth_token)
    }),
];

/// Quotas of CloudWatch Logs; the codes are ours.
const LOG_DEFINITIONS: [Definition; 4] = [
    ("L-HEARTHLG", "Log groups", "None", |values| limit(values.log_groups)),
    ("L-HEARTHLS", "Log streams", "None", |values| limit(values.log_streams)),
    ("L-HEARTHLB", "Bytes stored in log groups", "Megabytes", |values| limit(values.log_mib)),
    ("L-HEARTHLT", "Concurrent Live Tail sessions", "None", |values| limit(values.live_tail_sessions)),
];

/// Quotas of S3: the first has the service's code, the second one of ours.
const S3_DEFINITIONS: [Definition; 2] = [
    ("L-DC2B2D3D", "General purpose buckets", "None", |values| limit(values.s3_buckets)),
    ("L-HEARTHSB", "Bytes of objects, versions and unfinished uploads", "Gigabytes", |values| {
        limit(values.s3_gib)
    }),
];

/// The quotas of a service.
pub(super) fn definitions(service: Service) -> &'static [Definition] {
    match service {
        LOGS => &LOG_DEFINITIONS,
        S3 => &S3_DEFINITIONS,
        _ => &DEFINITIONS,
    }
}

fn limit(value: impl Into<u64>) -> f64 {
    match value.into() {
        0 => UNLIMITED,
        value => value as f64,
    }
}
