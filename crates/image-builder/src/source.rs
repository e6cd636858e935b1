//! Where code artifacts come from.

use std::path::Path;

use async_trait::async_trait;
use hearth_api::{AccountId, ImageArn};

/// On whose behalf a build reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader<'a> {
    /// Account of the image.
    pub account: &'a AccountId,
    /// Image that is built.
    pub image: &'a ImageArn,
    /// ARN of the build role.
    pub role: &'a str,
    /// Name of the role's session.
    pub session: &'a str,
}

/// Reads objects of the S3 that holds code artifacts.
#[async_trait]
pub trait ArtifactSource: Send + Sync + std::fmt::Debug {
    /// Copies an object that `reader` may read and that has at most `max_bytes` into the file `to`;
    /// returns its size in bytes.
    async fn fetch(
        &self,
        reader: Reader<'_>,
        bucket: &str,
        key: &str,
        to: &Path,
        max_bytes: u64,
    ) -> Result<u64, ArtifactError>;
}

/// An object could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// There is no such bucket.
    #[error("there is no such bucket")]
    NoSuchBucket,
    /// There is no such object.
    #[error("there is no such object")]
    NoSuchKey,
    /// The object may not be read.
    #[error("access is denied")]
    AccessDenied,
    /// The object is too large.
    #[error("the object is larger than {max_bytes} bytes")]
    TooLarge {
        /// Limit.
        max_bytes: u64,
    },
    /// Reading or writing failed.
    #[error("the object could not be copied")]
    Io(#[source] std::io::Error),
}

/// Splits `s3://bucket/key`.
pub(crate) fn parse_uri(uri: &str) -> Option<(&str, &str)> {
    let (bucket, key) = uri.strip_prefix("s3://")?.split_once('/')?;
    (!bucket.is_empty() && !key.is_empty()).then_some((bucket, key))
}
