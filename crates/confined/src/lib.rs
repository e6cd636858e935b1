//! Child processes in which hostile input is read.
//!
//! A tenant's files (a zip, a root disk, the layers of an image) are read in such a child, never in
//! the server. The program starts itself again as `confined`. That process gives up everything but
//! the descriptors it was handed (`child`), does one of the works that the program knows ([`Work`])
//! and answers with bytes. The server reads a bounded answer within a bounded time
//! ([`Confinement::run`]). A panic, an abort, a crash, an endless loop or a flood of output ends
//! the child and becomes an [`Error`] with a sentence for the owner of the file.
//!
//! What VMM processes and pulls have in common with these children is here too: [`spawn`],
//! [`cgroup`], [`uid`], and how a process confines itself: [`drop_privileges`], [`limit`],
//! [`end_with_parent`], [`allow_network_client`].
//!
//! Invariants: a child has its own user id, which no other process has, and no capability, file
//! system or network; its memory, CPU time, bytes written and wall-clock time are limited; it ends
//! with the server.

pub mod cgroup;
mod child;
mod filter;
mod limits;
mod privileges;
mod run;
pub mod spawn;
pub mod uid;
mod watch;

pub use child::{Task, Work, run_if_requested};
pub use filter::allow_network_client;
pub use limits::Limits;
pub use privileges::{drop_privileges, end_with_parent, limit, step};
pub use run::{Confinement, Job};

/// Why a child gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("a confined process could not be started")]
    Start(#[source] std::io::Error),
    /// The conversation with it broke on this side.
    #[error("a confined process could not be watched")]
    Watch(#[source] std::io::Error),
    /// It ended by a signal: a crash, or a limit of the kernel.
    #[error("the process that reads it ended by signal {signal}{}", because(*signal))]
    Killed {
        /// The signal.
        signal: i32,
    },
    /// It ended with a status other than 0.
    #[error("the process that reads it failed: {said}")]
    Failed {
        /// What it said last, or its status.
        said: String,
    },
    /// It was ended when its time was over.
    #[error("the process that reads it took longer than {seconds} s")]
    TimedOut {
        /// The limit.
        seconds: u64,
    },
    /// It was ended because its answer was too long.
    #[error("the process that reads it answered more than {bytes} bytes")]
    Flood {
        /// The limit.
        bytes: usize,
    },
    /// The caller has given up waiting for the answer.
    #[error("the work was given up")]
    Stopped,
}

/// What a signal means here.
fn because(signal: i32) -> &'static str {
    match signal {
        9 => ": it took more memory or CPU time than it may",
        6 | 11 => ": it crashed, or took more memory than it may",
        _ => "",
    }
}
