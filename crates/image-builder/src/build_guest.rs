//! What the microVMs of a build have in common.

use hearth_guest::{Egress, Error, Guest, GuestPlan, Limits, RootDisk};
use tokio_util::sync::CancellationToken;

use crate::failure::{BuildFailure, FailureCode};

/// Host memory that a VMM process may use beyond its guest's RAM, in MiB: builds fill page
/// caches of several disks.
const VMM_OVERHEAD_MIB: u32 = 1024;

/// A guest of a build, with `vcpu_count` vCPUs, `memory_mib` of RAM and no further disks.
pub(crate) fn plan(
    name: &str,
    (vcpu_count, memory_mib): (u8, u32),
    root: Option<RootDisk>,
    egress: Egress,
) -> GuestPlan {
    let limits = Limits { memory_mib: Some(memory_mib + VMM_OVERHEAD_MIB), cpu_percent: None };
    GuestPlan { name: name.to_owned(), vcpu_count, memory_mib, root, drives: Vec::new(), egress, limits }
}

/// Does `work` in a guest, until it is done, the guest ends, or the service does. Ending the guest
/// is left to the caller; `action` is what failed when it ended by itself.
pub(crate) async fn until_stopped<T>(
    action: &str,
    guest: &Guest,
    work: impl Future<Output = Result<T, BuildFailure>>,
    stopped: &CancellationToken,
) -> Result<T, BuildFailure> {
    tokio::select! {
        result = guest.while_it_runs(work) => result
            .unwrap_or_else(|error| Err(BuildFailure::platform(action, &error))),
        () = stopped.cancelled() => Err(stopped_failure()),
    }
}

/// The failure of a build that the service's own end interrupted.
pub(crate) fn stopped_failure() -> BuildFailure {
    BuildFailure::new(
        FailureCode::InternalPlatformError,
        "The service was stopped during the build; build again.",
    )
}

/// The failure of a build whose guest did not come up.
pub(crate) fn not_up(action: &str, error: &Error) -> BuildFailure {
    match error {
        Error::Stopped => stopped_failure(),
        error => BuildFailure::platform(action, error),
    }
}
