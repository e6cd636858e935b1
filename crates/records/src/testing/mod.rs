//! Records for tests: in memory, behind a guard that may refuse to write them, and the suite that
//! every keeper of records passes.

#[expect(clippy::unwrap_used, reason = "a suite fails its caller by panicking")]
mod conformance;
#[expect(clippy::unwrap_used, reason = "a suite fails its caller by panicking")]
mod connectors;
mod guarded;
#[expect(clippy::unwrap_used, reason = "a suite fails its caller by panicking")]
mod images;
mod memory;
#[expect(clippy::unwrap_used, reason = "as above")]
mod shared;

pub use conformance::Subject;
pub use connectors::connectors_conform;
pub use guarded::{BeforeWrite, Guarded};
pub use images::images_conform;
pub use memory::MemoryRecords;
pub use shared::what_is_shared_conforms;

use crate::MicrovmSettings;

/// The least that a caller of RunMicrovm can fix: 512 MiB for a minute, and nothing else.
pub fn settings() -> MicrovmSettings {
    MicrovmSettings {
        minimum_memory_mib: 512,
        execution_role_arn: None,
        idle_policy: None,
        maximum_duration_in_seconds: 60,
        logging: None,
        run_by: None,
        ingress_network_connectors: Vec::new(),
        egress_network_connectors: Vec::new(),
    }
}
