//! Guests on the fake VMM.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boot;
