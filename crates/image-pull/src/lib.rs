//! Fetches an image from a registry for a tenant, in a child process.
//!
//! The tenant chooses the image's name and may run the registry that answers, so the server reads
//! no byte of that answer. It starts itself again as `fetch-image` ([`run_if_requested`]). That
//! process enters a network namespace with the rules of guests, gives up all privileges, sees no
//! file but the directory that it fills, and leaves an OCI image layout there. It reports to the
//! server in short messages of a fixed form, which hold no text of a registry.
//!
//! Invariants: connections leave through the namespace, except those to an address that the
//! operator has named (a mirror, a proxy), which the server opens and hands over; no redirect and
//! no token realm leads from `https` to `http`, or to an operator's address that the image did not
//! come from; a token or a password goes only to the origin that it is for; every body has a limit
//! in bytes, and the whole fetch one in time.
//!
//! Reading order: [`spec`] (what the two processes say to each other), [`parent`], `child`, then
//! `registry` (the protocol), `http`, `origin` (who may be asked), `dial` and `resolve`.

mod address;
mod child;
mod dial;
mod http;
mod layout;
mod manifest;
mod messages;
mod origin;
pub mod parent;
mod registry;
mod resolve;
pub mod spec;

pub use child::{SUBCOMMAND, run_if_requested};
pub use parent::Fetch;
pub use spec::{Failure, Login, Proxy, PullLimits, PullSpec, Resolved};

#[cfg(test)]
mod tests;
