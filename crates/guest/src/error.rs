//! Why a guest could not be started, or does not answer.

use std::path::PathBuf;
use std::time::Duration;

use hearth_guest_protocol::client::ClientError;

/// A guest could not be started, or does not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No network could be made.
    #[error("cannot make the network of {name}")]
    Network {
        /// Guest.
        name: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// A directory could not be made.
    #[error("cannot make the directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The driver failed.
    #[error(transparent)]
    Vmm(#[from] hearth_vmm::Error),
    /// The agent could not be reached.
    #[error("the guest's agent cannot be reached")]
    Unreachable(#[source] std::io::Error),
    /// The conversation with the agent broke.
    #[error("the conversation with the guest's agent broke")]
    Agent(#[source] ClientError),
    /// The agent refused.
    #[error("{0}")]
    Refused(String),
    /// The VMM ended by itself; see [`crate::guest::describe_exit`].
    #[error("the {0}")]
    Ended(String),
    /// Its owner wanted it no longer.
    #[error("the guest was stopped while it booted")]
    Stopped,
    /// What an earlier server has recorded of a guest is missing or unknown here.
    #[error("the guest of {name} cannot be taken over: {detail}")]
    NotAdoptable {
        /// Guest.
        name: String,
        /// What is wrong.
        detail: String,
    },
    /// The agent did not answer in time.
    #[error("the guest's agent did not answer within {0:?}")]
    TimedOut(Duration),
}
