//! The neighbours over their HTTP interface, with real signatures.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broken_bodies;
mod documentation;
mod iam;
mod iam_conditions;
mod iam_policies;
mod live_tail;
mod logs;
mod logs_rights;
mod logs_written;
mod mistyped;
mod policy_bounds;
mod quotas;
mod s3;
mod s3_access;
mod s3_checksums;
mod s3_control;
mod s3_hosts;
mod s3_late;
mod s3_policy;
mod s3_settings;
mod s3_signed;
mod s3_versions;
mod sts;
mod support;
