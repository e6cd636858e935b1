//! What the tests of several crates stand on. Only ever a dev-dependency.
//!
//! It uses crates whose tests use it. These tests are in `tests/it`, where types of the crate are
//! the testkit's; in a unit test the crate is compiled anew, and its types are others.
//!
//! Reading order: [`networks`], [`agent`], [`guests`], then [`requests`] and
//! [`waiting`].

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

pub mod agent;
pub mod guests;
pub mod networks;
pub mod requests;
pub mod waiting;
