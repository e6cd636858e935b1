//! Why a build failed, in the words of the service's troubleshooting page.

use std::fmt;

use hearth_api::visible;
use hearth_guest_protocol::chain;
use serde::{Deserialize, Serialize};

/// The documented codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureCode {
    /// The build may not read the object.
    S3AccessDenied,
    /// There is no such object.
    S3NoSuchKey,
    /// There is no such bucket.
    S3NoSuchBucket,
    /// The object cannot be used.
    S3InvalidObject,
    /// The zip has no Dockerfile at its root.
    ArchiveDockerfileNotFound,
    /// The object is no usable zip.
    ArchiveInvalid,
    /// The Dockerfile failed.
    ContainerBuildFailed,
    /// The app did not get ready.
    NotReady,
    /// No space left.
    DiskStorageFull,
    /// The image was deleted meanwhile.
    Deleted,
    /// Our fault.
    InternalPlatformError,
}

/// A failed build: becomes `stateReason` of the build record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildFailure {
    /// Class.
    pub code: FailureCode,
    /// One or two sentences for the user.
    pub message: String,
}

impl BuildFailure {
    pub(crate) fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// A failed Dockerfile. That its disk was full is told as the service tells it.
    pub(crate) fn container(message: impl Into<String>) -> Self {
        let message = message.into();
        let full = message.to_ascii_lowercase().contains("no space left on device");
        let code = if full { FailureCode::DiskStorageFull } else { FailureCode::ContainerBuildFailed };
        Self { code, message }
    }

    /// A failure of the platform; `error` is logged with all its causes, and told to the user as
    /// well: on a self-hosted service the user is often the operator.
    pub(crate) fn platform(action: &str, error: &dyn std::error::Error) -> Self {
        let causes = chain(error);
        tracing::error!(action, error = causes, "a build failed on the platform's side");
        let full = causes.contains("No space left on device") || causes.contains("no space left");
        let code = if full { FailureCode::DiskStorageFull } else { FailureCode::InternalPlatformError };
        Self::new(code, format!("Could not {action}: {causes}."))
    }
}

/// As it is told: in reasons and in the log, both of which end in terminals. A Dockerfile's words
/// are part of some messages.
impl fmt::Display for BuildFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = visible(&self.message);
        let code = match self.code {
            FailureCode::S3AccessDenied => "S3_ACCESS_DENIED",
            FailureCode::S3NoSuchKey => "S3_NO_SUCH_KEY",
            FailureCode::S3NoSuchBucket => "S3_NO_SUCH_BUCKET",
            FailureCode::S3InvalidObject => "S3_INVALID_OBJECT",
            FailureCode::ArchiveDockerfileNotFound => "ARCHIVE_DOCKERFILE_NOT_FOUND",
            FailureCode::ArchiveInvalid => "ARCHIVE_INVALID",
            FailureCode::ContainerBuildFailed => "CONTAINER_BUILD_FAILED",
            FailureCode::DiskStorageFull => "DISK_STORAGE_FULL",
            FailureCode::InternalPlatformError => "INTERNAL_PLATFORM_ERROR",
            // The service gives such sentences without a code.
            FailureCode::NotReady | FailureCode::Deleted => return f.write_str(&message),
        };
        write!(f, "{code}: {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerfile_that_fills_its_disk_is_told_so() {
        let code = |message| BuildFailure::container(message).code;
        assert_eq!(code("dd: error writing '/x': No space left on device."), FailureCode::DiskStorageFull);
        assert_eq!(code("exit status 1."), FailureCode::ContainerBuildFailed);
    }

    #[test]
    fn reasons_give_terminals_no_orders() {
        let message = "The base image \u{1b}]0;owned\u{7}evil of a FROM is no reference.";
        let told = BuildFailure::new(FailureCode::ContainerBuildFailed, message).to_string();
        let shown =
            r"CONTAINER_BUILD_FAILED: The base image \u001b]0;owned\u0007evil of a FROM is no reference.";
        assert_eq!(told, shown);
        assert!(!BuildFailure::new(FailureCode::NotReady, message).to_string().contains('\u{1b}'));
    }
}
