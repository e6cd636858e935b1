//! The AWS services next door that clients call: S3, CloudWatch Logs (reading), IAM and STS.
//!
//! Reading order: [`router`] (who answers), [`s3`], `logs`, `query` (the protocol of the next two), `iam`, `sts`.

mod iam;
mod logs;
mod query;
pub mod router;
pub mod s3;
mod sts;

pub use router::router;
pub use s3::{ObjectStorage, StorageError};
