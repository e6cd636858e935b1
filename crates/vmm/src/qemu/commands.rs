//! The QMP commands and events that the driver uses, as types (QEMU's `qapi/*.json`).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A QMP command: its name and its reply; the value itself serializes to its arguments.
pub(super) trait Command: Serialize + Sync {
    /// Name on the wire.
    const NAME: &'static str;
    /// What a success returns.
    type Reply: DeserializeOwned + Send;
}

/// Reply of commands that return an empty object.
#[derive(Debug, Deserialize)]
pub(super) struct Empty {}

macro_rules! command {
    ($(#[$doc:meta])* $type:ident $({ $($(#[$field_doc:meta])* $field:ident : $field_type:ty),* $(,)? })?, $name:literal, $reply:ty) => {
        $(#[$doc])*
        #[derive(Debug, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub(super) struct $type { $($($(#[$field_doc])* pub(super) $field: $field_type,)*)? }

        impl Command for $type {
            const NAME: &'static str = $name;
            type Reply = $reply;
        }
    };
}

command!(
    /// Leaves the negotiation mode.
    QmpCapabilities, "qmp_capabilities", Empty
);
command!(
    /// Stops the vCPUs, completes disk requests and flushes the disks.
    Stop, "stop", Empty
);
command!(
    /// Lets the vCPUs run.
    Cont, "cont", Empty
);
command!(
    /// Asks for the run state.
    QueryStatus, "query-status", RunStatus
);
command!(
    /// Switches migration features.
    MigrateSetCapabilities {
        /// Features.
        capabilities: Vec<MigrationCapability>,
    },
    "migrate-set-capabilities", Empty
);
command!(
    /// Saves the VM's state.
    Migrate {
        /// Where to: `file:PATH`.
        uri: String,
    },
    "migrate", Empty
);
command!(
    /// Loads a VM's state.
    MigrateIncoming {
        /// Where from: `file:PATH`.
        uri: String,
    },
    "migrate-incoming", Empty
);
command!(
    /// Asks why a migration failed.
    QueryMigrate, "query-migrate", MigrationInfo
);
command!(
    /// Makes the descriptor that was sent along available as `/dev/fdset/ID`.
    AddFd, "add-fd", AddedFd
);
command!(
    /// Closes an fd set.
    RemoveFd {
        /// Its number.
        #[serde(rename = "fdset-id")]
        fdset_id: u64,
    },
    "remove-fd", Empty
);
command!(
    /// Saves everything but RAM and disks. Despite its name it has nothing to do with Xen.
    XenSaveDevicesState {
        /// Where to.
        filename: String,
        /// Whether the disks are given up for another process to take over.
        live: bool,
    },
    "xen-save-devices-state", Empty
);
command!(
    /// Takes what a ring buffer character device holds.
    RingbufRead {
        /// Name of the device.
        device: String,
        /// At most this many bytes.
        size: u32,
        /// `utf8` or `base64`.
        format: &'static str,
    },
    "ringbuf-read", String
);

/// A migration feature.
#[derive(Debug, Serialize)]
pub(super) struct MigrationCapability {
    /// Name.
    pub(super) capability: &'static str,
    /// Whether it is on.
    pub(super) state: bool,
}

/// Reply of `query-status`.
#[derive(Debug, Deserialize)]
pub(super) struct RunStatus {
    /// `running`, `paused`, `inmigrate`, `postmigrate`, `shutdown`, …
    pub(super) status: String,
}

/// Reply of `query-migrate`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct MigrationInfo {
    /// `setup`, `active`, `completed`, `failed`, …
    pub(super) status: Option<String>,
    /// Why it failed.
    pub(super) error_desc: Option<String>,
}

/// Reply of `add-fd`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct AddedFd {
    /// Number of the fd set.
    pub(super) fdset_id: u64,
}

/// An event that the driver cares about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A migration has changed its status.
    Migration {
        /// `completed`, `failed`, …
        status: String,
    },
    /// The guest has ended its run.
    Shutdown {
        /// `guest-shutdown`, `guest-reset`, `guest-panic`, …
        reason: String,
    },
    /// The vCPUs have stopped, by a command or because of an error.
    Stopped,
}

/// An event on the wire.
#[derive(Debug, Deserialize)]
pub(super) struct RawEvent {
    event: String,
    #[serde(default)]
    data: EventData,
}

#[derive(Debug, Default, Deserialize)]
struct EventData {
    status: Option<serde_json::Value>,
    reason: Option<serde_json::Value>,
}

impl RawEvent {
    /// The event, if the driver cares about it.
    pub(super) fn known(self) -> Option<Event> {
        match self.event.as_str() {
            "MIGRATION" => {
                let status = self.data.status?.as_str()?.to_owned();
                Some(Event::Migration { status })
            }
            "SHUTDOWN" => {
                let reason = self.data.reason?.as_str()?.to_owned();
                Some(Event::Shutdown { reason })
            }
            "STOP" => Some(Event::Stopped),
            _ => None,
        }
    }
}
