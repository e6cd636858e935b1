//! Messages between the host and the guest agent, and the host's client for them.
//!
//! Every conversation is one TCP connection on the control network, which has its own NIC that only
//! the agent's network namespace can use. The host sends a [`Request`] frame; what follows depends
//! on the request. A connection whose request had one reply can take the next request: a restored
//! guest need not accept a second connection when [`Request::Forward`] follows
//! [`Request::Restored`].
//!
//! Invariant: no connection needs to live longer than its request. So a snapshot, a clone or a
//! resume loses nothing: the host asks again.
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
