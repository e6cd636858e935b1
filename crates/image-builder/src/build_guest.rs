//! What the microVMs of a build have in common.

use hearth_guest::{Error, Guest, Limits};
use tokio_util::sync::CancellationToken;

use crate::failure::{BuildFailure, FailureCode};

/// Host memory that a VMM process may use beyond its guest's RAM, in MiB: builds fill page
/// caches of several disks.
const VMM_OVERHEAD_MIB: u32 = 1024;

/// Limits of a VMM whose guest has so much RAM.
pub(crate) fn limits(memory_mib: u32) -> Limits {
    Limits { memory_mib: Some(memory_mib + VMM_OVERHEAD_MIB), cpu_percent: None }
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
