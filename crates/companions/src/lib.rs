//! The AWS services next door that clients call: S3, CloudWatch Logs (reading) and STS GetCallerIdentity.
//!
//! Reading order: [`router`] (who answers), [`s3`], `logs`, `sts`.

mod logs;
pub mod router;
pub mod s3;
mod sts;

pub use router::router;
pub use s3::{ObjectStorage, StorageError};
