//! The API over its HTTP interface, with real signatures and a real (in-memory) database. The host
//! has no networks to give, so builds and launches begin and fail; what they do when they succeed
//! is tested where they are.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod authentication;
mod authorization;
mod events;
mod extensions;
mod hang_ups;
mod images;
mod logging;
mod microvms;
mod network_connectors;
mod quotas;
mod support;
mod tags;
mod versions;
