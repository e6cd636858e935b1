//! Policies and requests as callers have them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conditions;
mod documents;
mod evaluation;
mod oracle;
mod properties;
mod support;
mod trust;
