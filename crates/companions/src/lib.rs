//! The AWS services next door that clients call: S3, CloudWatch Logs, Service Quotas
//! (reading), IAM and STS.
//!
//! Reading order: `router` (who answers), [`s3`], `logs`, `quotas`, `query` (the protocol of the
//! next two), `iam`, `sts`.

mod iam;
mod json;
mod logs;
mod query;
mod quotas;
pub mod router;
pub mod s3;
mod sts;
mod whole_api;

pub use logs::RETENTIONS as LOG_RETENTIONS;
pub use quotas::QuotaValues;
pub use router::router;
pub use s3::{ObjectStorage, StorageError, StorageLimits};
pub use whole_api::WholeApi;
