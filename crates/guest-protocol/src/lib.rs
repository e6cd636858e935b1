//! Messages between the host and the guest agent, and the host's client for them.
//!
//! Every conversation is one TCP connection on the control network (a NIC of its own that only the
//! agent's network namespace owns). The host sends a [`Request`] frame; what follows depends on the
//! request. After a request with one reply the connection can take the next one, which saves a
//! restored guest the making of a second connection when [`Request::Restored`] is followed by
//! [`Request::Forward`]. No connection needs to live longer than its request, so a snapshot, a
//! clone or a resume loses nothing: the host simply asks again.
//!
//! Reading order: [`message`], [`codec`], `shell` (what passes to and from a shell), `client` (host
//! only, behind the feature `client`).

mod chain;
#[cfg(feature = "client")]
pub mod client;
pub mod codec;
mod inspection;
pub mod message;
mod shell;

pub use chain::chain;
pub use inspection::{Inspection, PageRun, Process, Region, Socket};
pub use message::*;
pub use shell::{
    FromShell, SHELL_HEADER_BYTES, SHELL_PAYLOAD_BYTES, ShellHeader, ShellSpec, Terminal, ToShell,
};
