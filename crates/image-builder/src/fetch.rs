//! Fetches the code artifact of a build.

use std::path::Path;

use hearth_records::{BuildRecord, ImageVersionRecord};

use crate::builder::ImageBuilder;
use crate::failure::{BuildFailure, FailureCode};
use crate::source::{ArtifactError, Reader, parse_uri};

impl ImageBuilder {
    /// Copies the zip to a file.
    pub(crate) async fn fetch(
        &self,
        row: &ImageVersionRecord,
        build: &BuildRecord,
        to: &Path,
    ) -> Result<(), BuildFailure> {
        let (uri, role) = (&row.configuration.code_artifact.uri, &row.configuration.build_role_arn);
        let invalid = |message| BuildFailure::new(FailureCode::S3InvalidObject, message);
        let (bucket, key) = parse_uri(uri)
            .ok_or_else(|| invalid(format!("{uri} is not of the form s3://<bucket>/<key>.")))?;
        let max_bytes = self.config.archive_limits.zip_bytes;
        let reader = Reader { account: &row.arn.account, image: &row.arn, role, session: build.id.as_str() };
        let Err(error) = self.config.artifacts.fetch(reader, bucket, key, to, max_bytes).await else {
            return Ok(());
        };
        Err(match error {
            ArtifactError::NoSuchBucket => {
                BuildFailure::new(FailureCode::S3NoSuchBucket, format!("The bucket {bucket} does not exist."))
            }
            ArtifactError::NoSuchKey => BuildFailure::new(
                FailureCode::S3NoSuchKey,
                format!("The object {key} does not exist in the bucket {bucket}."),
            ),
            ArtifactError::AccessDenied => BuildFailure::new(
                FailureCode::S3AccessDenied,
                format!("The build role {role} may not read {uri}."),
            ),
            ArtifactError::TooLarge { max_bytes } => {
                invalid(format!("{uri} is larger than the {max_bytes} bytes that are allowed."))
            }
            ArtifactError::Io(error) => BuildFailure::platform("fetch the code artifact", &error),
        })
    }
}
