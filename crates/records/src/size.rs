//! Sizes of microVMs.

use hearth_api::ImageConfiguration;

/// A size of the service: what the guest is given for a baseline of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Baseline in MiB: the name of the size.
    pub minimum_memory_mib: u32,
    /// Guest memory in MiB: the peak, four times the baseline.
    pub peak_memory_mib: u32,
    /// Guest vCPUs at peak.
    pub vcpu_count: u8,
    /// Root disk in bytes.
    pub disk_bytes: u64,
}

impl Size {
    /// Baseline in MiB of an image that asks for none.
    pub const DEFAULT_MEMORY_MIB: u32 = 2048;
    /// All sizes, smallest first.
    pub const ALL: [Self; 5] = [
        Self::new(512, 1, 8),
        Self::new(1024, 2, 8),
        Self::new(2048, 4, 8),
        Self::new(4096, 8, 16),
        Self::new(8192, 16, 32),
    ];

    const fn new(minimum_memory_mib: u32, vcpu_count: u8, disk_gib: u64) -> Self {
        Self {
            minimum_memory_mib,
            peak_memory_mib: minimum_memory_mib * 4,
            vcpu_count,
            disk_bytes: disk_gib << 30,
        }
    }

    /// The size with this baseline.
    pub fn for_baseline(minimum_memory_mib: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.minimum_memory_mib == minimum_memory_mib)
    }

    /// The baseline in MiB that a version asks for.
    pub fn baseline_of(configuration: &ImageConfiguration) -> u32 {
        let wanted = configuration.resources.as_ref().and_then(|list| list.first());
        wanted.map_or(Self::DEFAULT_MEMORY_MIB, |wanted| wanted.minimum_memory_in_mi_b)
    }

    /// The size that a version asks for, if there is such a size.
    pub fn of(configuration: &ImageConfiguration) -> Option<Self> {
        Self::for_baseline(Self::baseline_of(configuration))
    }
}
