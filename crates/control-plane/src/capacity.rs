//! What is refused because there is no room: quotas of the account, and the memory of the host.

use hearth_api::ErrorKind;
use hearth_records::{Quota, Quotas};
use hearth_service::Error;

use crate::config::Context;

/// 402, or 400 for network connectors. The sentence about memory is the service's (recorded
/// exchanges), the others are ours.
pub(crate) fn quota_exceeded(quota: Quota, quotas: &Quotas) -> Error {
    let mut kind = ErrorKind::ServiceQuotaExceeded;
    let message = match quota {
        Quota::Memory => {
            "The base maximum allocated memory limit has been reached for this account.".to_owned()
        }
        Quota::Images => {
            format!(
                "The maximum number of MicroVM images ({}) has been reached for this account.",
                quotas.images
            )
        }
        Quota::VersionsPerImage => format!(
            "The maximum number of versions ({}) has been reached for this MicroVM image; delete one first.",
            quotas.versions_per_image
        ),
        Quota::ConcurrentBuilds => format!(
            "The maximum number of concurrent builds ({}) has been reached for this account; try again when one has ended.",
            quotas.concurrent_builds
        ),
        Quota::NetworkConnectors => {
            kind = ErrorKind::NetworkConnectorLimitExceeded;
            format!(
                "The maximum number of network connectors ({}) has been reached for this account; delete one first.",
                quotas.network_connectors
            )
        }
        Quota::VersionsPerNetworkConnector => {
            kind = ErrorKind::NetworkConnectorLimitExceeded;
            format!(
                "The maximum number of versions ({}) has been reached for this network connector; delete one first.",
                quotas.versions_per_network_connector
            )
        }
    };
    Error::new(kind, message)
}

impl Context {
    /// Refuses a launch when the host has less memory or disk than it is to keep;
    /// nothing has been made then.
    pub(crate) fn check_capacity(&self) -> Result<(), Error> {
        self.services.store.check_room().map_err(|full| {
            let message = format!("The host has no room for another MicroVM: {full}.");
            Error::new(ErrorKind::InsufficientCapacity, message)
        })?;
        let wanted = self.config.minimum_available_memory_mib;
        // A host that does not say what it has is not full.
        let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_mib(&text));
        match available {
            Some(available) if available < wanted => Err(Error::new(
                ErrorKind::InsufficientCapacity,
                format!(
                    "The host has {available} MiB of memory left and keeps {wanted} MiB; suspend or terminate MicroVMs."
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// `MemAvailable` of /proc/meminfo (proc_meminfo(5)).
fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_mib() {
        let text = "MemTotal:       24684092 kB\nMemFree:            1 kB\nMemAvailable:    2097152 kB\n";
        assert_eq!(available_mib(text), Some(2048));
        assert_eq!(available_mib("MemTotal: 1 kB\n"), None);
    }
}
