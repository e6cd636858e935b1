//! The closed set of exceptions of the service, with their HTTP statuses.

use crate::arn::ImageArn;

/// Violations that one answer names: a body of millions must not be answered with as
/// many sentences.
pub const MAXIMUM_VIOLATIONS: usize = 20;
/// Longest value that the sentence about a violation repeats, in bytes.
pub const MAXIMUM_SHOWN: usize = 2048;

/// Which exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// 400.
    Validation,
    /// 400, of `lambda-core`: a rule that the model does not state.
    InvalidParameterValue,
    /// 400, of `lambda-core`: as many connectors, or versions of one, as there may be.
    NetworkConnectorLimitExceeded,
    /// 402.
    ServiceQuotaExceeded,
    /// 403.
    AccessDenied,
    /// 403, raised by the signature check before any operation is reached.
    InvalidSignature,
    /// 403, no or an unreadable signature.
    MissingAuthenticationToken,
    /// 403, a signature that cannot be read.
    IncompleteSignature,
    /// 403, unknown access key or session token.
    UnrecognizedClient,
    /// 403, temporary credentials whose time is over.
    ExpiredToken,
    /// 404.
    ResourceNotFound,
    /// 404, a path and method that no operation has.
    UnknownOperation,
    /// 409.
    Conflict,
    /// 409, of `lambda-core`.
    ResourceConflict,
    /// 429.
    Throttling,
    /// 500.
    InternalServer,
    /// 500, of `lambda-core`.
    Service,
    /// 500.
    InsufficientCapacity,
}

impl ErrorKind {
    /// HTTP status (botocore model, trait `httpError`).
    pub fn status(self) -> u16 {
        match self {
            Self::Validation | Self::InvalidParameterValue | Self::NetworkConnectorLimitExceeded => 400,
            Self::ServiceQuotaExceeded => 402,
            Self::AccessDenied
            | Self::InvalidSignature
            | Self::MissingAuthenticationToken
            | Self::IncompleteSignature
            | Self::UnrecognizedClient
            | Self::ExpiredToken => 403,
            Self::ResourceNotFound | Self::UnknownOperation => 404,
            Self::Conflict | Self::ResourceConflict => 409,
            Self::Throttling => 429,
            Self::InternalServer | Self::Service | Self::InsufficientCapacity => 500,
        }
    }

    /// Value of `x-amzn-errortype`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validation => "ValidationException",
            Self::InvalidParameterValue => "InvalidParameterValueException",
            Self::NetworkConnectorLimitExceeded => "NetworkConnectorLimitExceededException",
            Self::ServiceQuotaExceeded => "ServiceQuotaExceededException",
            Self::AccessDenied => "AccessDeniedException",
            Self::InvalidSignature => "InvalidSignatureException",
            Self::MissingAuthenticationToken => "MissingAuthenticationTokenException",
            Self::IncompleteSignature => "IncompleteSignatureException",
            Self::UnrecognizedClient => "UnrecognizedClientException",
            Self::ExpiredToken => "ExpiredTokenException",
            Self::ResourceNotFound => "ResourceNotFoundException",
            Self::UnknownOperation => "UnknownOperationException",
            Self::Conflict => "ConflictException",
            Self::ResourceConflict => "ResourceConflictException",
            Self::Throttling => "ThrottlingException",
            Self::InternalServer => "InternalServerException",
            Self::Service => "ServiceException",
            Self::InsufficientCapacity => "InsufficientCapacityException",
        }
    }
}

/// An error answer: what the caller sees. The cause goes to the log with the same request id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", kind.name())]
pub struct Error {
    /// Which exception.
    pub kind: ErrorKind,
    /// Text for the caller.
    pub message: String,
}

impl Error {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// 400 ValidationException.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Validation, message)
    }

    /// 404 ResourceNotFoundException.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::ResourceNotFound, message)
    }

    /// 404, an image that is not there (recorded exchanges).
    pub fn image_not_found(arn: &ImageArn) -> Self {
        Self::not_found(format!("MicroVMImage not found for MicroVMImageID: {arn}"))
    }

    /// 404, a version of an image that is not there (recorded exchanges).
    pub fn version_not_found(arn: &ImageArn, version: impl std::fmt::Display) -> Self {
        Self::not_found(format!("MicroVMImage not found for MicroVMImage: {arn}, Version: {version}"))
    }

    /// 409 ConflictException.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// 500 InternalServerException; the text never says more than that.
    pub fn internal() -> Self {
        Self::new(
            ErrorKind::InternalServer,
            "The service failed to process the request; the server's log says why.",
        )
    }
}
