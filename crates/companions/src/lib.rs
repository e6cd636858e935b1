//! The AWS services next door that clients call: S3, CloudWatch Logs, Service Quotas (reading) and STS
//! GetCallerIdentity.
//!
//! Reading order: [`router`] (who answers), [`s3`], `logs`, `quotas`, `sts`.

mod json;
mod logs;
mod quotas;
pub mod router;
pub mod s3;
mod sts;

pub use logs::RETENTIONS as LOG_RETENTIONS;
pub use quotas::QuotaValues;
pub use router::router;
pub use s3::{ObjectStorage, StorageError};
