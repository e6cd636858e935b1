//! How many files the server may have open, and how many of them clients can take.
//!
//! A connection is an open file. systemd starts services with a soft limit of 1024,
//! which a thousand silent clients would use up: then nothing could be launched, and
//! nobody could ask for it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the server keeps for itself: the API's connections, the database, microVMs, builds.
const OWN: u64 = 2048;
/// The least that is left for it when there are few.
const OWN_MIN: u64 = 512;

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connections {
    /// Of clients.
    pub(crate) clients: usize,
    /// To apps.
    pub(crate) apps: usize,
    /// To the API: half of what the server keeps for itself.
    pub(crate) api: usize,
}

/// Raises the limit to what `wanted` client connections need, as far as this process may; `None` is
/// as many as there can be.
pub(crate) fn provide(wanted: Option<u64>) -> Connections {
    let limits = getrlimit(Resource::Nofile);
    let (soft, hard) = (limits.current.unwrap_or(u64::MAX), limits.maximum.unwrap_or(u64::MAX));
    let needed = wanted.map(needed_for);
    let set = |files: u64| {
        let maximum = limits.maximum.map(|maximum| maximum.max(files));
        setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum }).map(|()| files)
    };
    // Beyond the hard limit only with CAP_SYS_RESOURCE, and never beyond fs.nr_open.
    let highest = needed.unwrap_or(hard).max(soft);
    let now = set(highest).or_else(|_| set(highest.min(hard))).unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of open files (RLIMIT_NOFILE) could not be raised");
        soft
    });
    let connections = divide(now, wanted);
    if let Some(needed) = needed.filter(|needed| *needed > now) {
        tracing::warn!(
            limit = now,
            needed,
            clients = connections.clients,
            "the hard limit of open files (RLIMIT_NOFILE, LimitNOFILE= of systemd) is too low for endpoint.connections; \
             the endpoints serve fewer client connections at a time"
        );
    }
    connections
}

/// A client's connection needs one to the app, too.
fn needed_for(connections: u64) -> u64 {
    connections.saturating_mul(2).saturating_add(OWN)
}

/// How many client connections `files` open files are enough for.
fn divide(files: u64, wanted: Option<u64>) -> Connections {
    let own = OWN.min((files / 2).max(OWN_MIN));
    let each = files.saturating_sub(own) / 2;
    let clients = wanted.unwrap_or(each).min(each).max(1);
    // Streams of HTTP/2 have a connection each to an app of HTTP/1.1.
    let apps = files.saturating_sub(own + clients).max(1);
    Connections { clients: clients as usize, apps: apps as usize, api: (own / 2) as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_can_take_is_always_less_than_there_is() {
        for files in [1024, 4096, 10_240, 524_288] {
            for wanted in [None, Some(1), Some(64), Some(4096), Some(1 << 40)] {
                let Connections { clients, apps, api } = divide(files, wanted);
                assert!(clients >= 1 && apps >= clients, "{files} {wanted:?}");
                assert!((clients + apps) as u64 + OWN_MIN <= files, "{files} {wanted:?}");
                assert!(
                    api as u64 >= OWN_MIN / 2 && (clients + apps + 2 * api) as u64 <= files,
                    "{files} {wanted:?}"
                );
                assert!(wanted.is_none_or(|wanted| clients as u64 <= wanted));
            }
        }
        assert_eq!(
            divide(needed_for(4096), Some(4096)),
            Connections { clients: 4096, apps: 4096, api: 1024 }
        );
        assert_eq!(divide(1024, Some(4096)).clients, 256);
    }

    #[test]
    fn the_limit_of_this_process_is_raised_to_what_is_needed() {
        let before = getrlimit(Resource::Nofile);
        let hard = before.maximum.unwrap_or(u64::MAX);
        let wanted = 1500.min(hard.saturating_sub(OWN) / 2);
        let lower = Rlimit { current: Some(1024.min(hard)), maximum: before.maximum };
        setrlimit(Resource::Nofile, lower).unwrap();
        let connections = provide(Some(wanted));
        let after = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, before).unwrap();
        assert!(after.current.unwrap_or(u64::MAX) >= needed_for(wanted).min(hard));
        assert_eq!((after.maximum, connections.clients as u64), (before.maximum, wanted.max(1)));
    }
}
