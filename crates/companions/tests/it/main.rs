//! The neighbours over their HTTP interface, with real signatures.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broken_bodies;
mod iam;
mod iam_conditions;
mod iam_policies;
mod live_tail;
mod logs;
mod logs_written;
mod quotas;
mod s3;
mod sts;
mod support;
