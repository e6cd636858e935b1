//! What the microVMs of a build have in common.

use hearth_api::egress::REFUSED;
use hearth_api::{EgressDecision, ImageConfiguration, visible};
use hearth_egress::Egresses;
use hearth_guest::{Egress, Error, Guest, GuestPlan, Limits, RootDisk};
use tokio_util::sync::CancellationToken;

use crate::failure::{BuildFailure, FailureCode};

/// Host memory that a VMM process may use beyond its guest's RAM, in MiB: builds fill page
/// caches of several disks.
const VMM_OVERHEAD_MIB: u32 = 1024;

/// What the microVMs of a build may reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WayOut<'a> {
    egresses: &'a Egresses,
    connectors: &'a [String],
}

impl<'a> WayOut<'a> {
    /// That of builds of a version with this configuration.
    pub(crate) fn of(egresses: &'a Egresses, configuration: &'a ImageConfiguration) -> Self {
        let connectors = configuration.egress_network_connectors.as_deref().unwrap_or_default();
        Self { egresses, connectors }
    }

    /// That of the microVM of this name.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Egress, BuildFailure> {
        let resolved = self.egresses.resolve(name, self.connectors).await;
        resolved.map_err(|error| BuildFailure::platform("find out what the build may reach", &error))
    }

    /// Keeps the microVM of this name to it until the answer is dropped.
    pub(crate) async fn keep(&self, name: &str, guest: &Guest) -> Kept<'a> {
        self.egresses.keep(name, self.connectors, guest).await;
        Kept { egresses: self.egresses, name: name.to_owned() }
    }
}

/// See [`WayOut::keep`].
#[derive(Debug)]
pub(crate) struct Kept<'a> {
    egresses: &'a Egresses,
    name: String,
}

/// Refusals that a build's log tells at most.
const REFUSALS: usize = 20;

impl Kept<'_> {
    /// What the build was refused, a line for each.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let decisions = self.egresses.told(&self.name).map(|told| told.decisions).unwrap_or_default();
        let refused: Vec<_> = decisions.into_iter().filter(|made| made.verdict == REFUSED).collect();
        let more = refused.len().saturating_sub(REFUSALS);
        let mut lines: Vec<_> = refused.into_iter().take(REFUSALS).map(line).collect();
        if more > 0 {
            lines.push(format!("The egress policy refused {more} more."));
        }
        lines
    }
}

fn line(made: EgressDecision) -> String {
    let place = match (made.name, made.address) {
        (Some(name), Some(address)) => format!("{name} ({address})"),
        (Some(name), None) => name,
        (None, address) => address.map_or_else(|| "a name".to_owned(), |address| address.to_string()),
    };
    let port = made.port.map(|port| format!(" port {port}")).unwrap_or_default();
    let (protocol, why) = (made.protocol, made.reason.unwrap_or_default());
    visible(&format!("The egress policy refused {place}{port} over {protocol}: {why}.")).into_owned()
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.egresses.forget(&self.name);
    }
}

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
