//! Tests of the networks from inside a fake guest: a namespace whose NIC is wired to
//! the microVM's TAP.
//!
//! Every test has a "host" and an "internet" of its own, both network namespaces, so nothing here
//! touches the real host's network. They need root.

#![allow(clippy::unwrap_used, reason = "clippy's own exception covers test functions but not what they call")]

mod adopt;
mod egress;
mod life;
mod policy;
mod process;
mod resolver;
mod shared_tables;
mod taken_away;
mod world;
