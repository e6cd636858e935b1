//! Fetches an image from a registry for a tenant, in a child process of its own.
//!
//! The name of the image, and everything that the registry answers, is the tenant's: an image may
//! come from a registry that the tenant runs. So the server itself reads no byte of it. It starts
//! itself again as `fetch-image` ([`run_if_requested`]); that process enters a network namespace
//! with the rules of guests, gives up all privileges, sees nothing of the file system but the
//! directory that it fills, and leaves an OCI image layout there. What it tells the server are
//! short messages of a fixed form; text of a registry is in none of them.
//!
//! Invariants: connections leave through the namespace, but for those to an address that the
//! operator has named (a mirror, a proxy), which the server opens itself and hands over; no
//! redirect and no token realm leads from `https` to `http`, or to an address of the operator's
//! that the image did not come from; a token or a password goes to the origin that it is for; every
//! body has a limit in bytes, and the whole fetch one in time.
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
