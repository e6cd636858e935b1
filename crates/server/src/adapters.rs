//! Small pieces that let crates which must not know each other work together.

use std::io;
use std::path::Path;

use hearth_companions::{ObjectStorage, StorageError};
use hearth_image_builder::{ArtifactError, ArtifactSource};

/// Code artifacts come from our own S3.
#[derive(Debug)]
pub(crate) struct Artifacts(pub(crate) ObjectStorage);

#[async_trait::async_trait]
impl ArtifactSource for Artifacts {
    async fn fetch(&self, bucket: &str, key: &str, to: &Path, max_bytes: u64) -> Result<u64, ArtifactError> {
        self.0.fetch(bucket, key, to, max_bytes).await.map_err(|error| match error {
            StorageError::NoSuchBucket(_) => ArtifactError::NoSuchBucket,
            StorageError::NoSuchKey(_) => ArtifactError::NoSuchKey,
            StorageError::TooLarge { max_bytes, .. } => ArtifactError::TooLarge { max_bytes },
            other @ StorageError::Io { .. } => ArtifactError::Io(io::Error::other(other)),
        })
    }
}
