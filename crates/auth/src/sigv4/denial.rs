//! Why a request is not believed, and what its sender is told.

use hearth_api::{Error, ErrorKind};

use super::claim::Unreadable;

/// Why a request was not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No signature at all.
    #[error("missing authentication token")]
    Missing,
    /// A signature that cannot be read; the text says what is wrong.
    #[error("incomplete signature: {0}")]
    Incomplete(String),
    /// An access key that nobody has.
    #[error("unknown access key")]
    UnknownAccessKey,
    /// Temporary credentials with another token than theirs, or long-term ones with a token.
    #[error("wrong session token")]
    WrongToken,
    /// Temporary credentials whose time is over.
    #[error("expired session token")]
    ExpiredToken,
    /// Signed for another service.
    #[error("signed for another service than {expected}")]
    WrongService {
        /// Service that was called.
        expected: String,
    },
    /// A header that changes what the request does and is not signed.
    #[error("the header {0} is not signed")]
    HeaderNotSigned(String),
    /// Signed too long ago.
    #[error("signature expired: {0}")]
    Expired(String),
    /// Signed in the future.
    #[error("signature not yet current: {0}")]
    NotYetCurrent(String),
    /// The body is not the one whose hash was signed.
    #[error("body does not match its hash")]
    BodyMismatch,
    /// Wrong secret, or the request was changed on its way.
    #[error("signature mismatch")]
    Mismatch,
}

impl From<Unreadable> for Denial {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Absent => Self::Missing,
            Unreadable::Incomplete(what) => Self::Incomplete(what),
        }
    }
}

impl From<Denial> for Error {
    fn from(denial: Denial) -> Self {
        let (kind, message) = match denial {
            Denial::Missing => (ErrorKind::MissingAuthenticationToken, "Missing Authentication Token".to_owned()),
            Denial::Incomplete(what) => (ErrorKind::IncompleteSignature, what),
            Denial::UnknownAccessKey | Denial::WrongToken => (
                ErrorKind::UnrecognizedClient,
                "The security token included in the request is invalid.".to_owned(),
            ),
            Denial::ExpiredToken => (
                ErrorKind::ExpiredToken,
                "The security token included in the request is expired".to_owned(),
            ),
            Denial::WrongService { expected } => (
                ErrorKind::InvalidSignature,
                format!("The credential must be scoped to the service '{expected}'."),
            ),
            Denial::HeaderNotSigned(name) => (
                ErrorKind::InvalidSignature,
                format!("'{name}' must be a 'SignedHeader' in the AWS Authorization: every x-amz-* header must be signed."),
            ),
            Denial::Expired(detail) => (ErrorKind::InvalidSignature, format!("Signature expired: {detail}")),
            Denial::NotYetCurrent(detail) => {
                (ErrorKind::InvalidSignature, format!("Signature not yet current: {detail}"))
            }
            Denial::BodyMismatch => (
                ErrorKind::InvalidSignature,
                "The body of the request does not have the hash that x-amz-content-sha256 gives.".to_owned(),
            ),
            Denial::Mismatch => (
                ErrorKind::InvalidSignature,
                "The signature of the request is not the one calculated here. Check the secret access key and the \
                 signing method."
                    .to_owned(),
            ),
        };
        Self::new(kind, message)
    }
}
