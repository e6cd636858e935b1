//! Errors of both models (botocore models `iam` and `sts`, trait `error`).

use hearth_service::Exception;

pub(crate) const ACCESS_DENIED: Exception = Exception { name: "AccessDenied", status: 403 };
pub(crate) const DELETE_CONFLICT: Exception = Exception { name: "DeleteConflict", status: 409 };
pub(crate) const ENTITY_ALREADY_EXISTS: Exception = Exception { name: "EntityAlreadyExists", status: 409 };
pub(crate) const INVALID_CLIENT_TOKEN_ID: Exception = Exception { name: "InvalidClientTokenId", status: 403 };
pub(crate) const INVALID_INPUT: Exception = Exception { name: "InvalidInput", status: 400 };
pub(crate) const LIMIT_EXCEEDED: Exception = Exception { name: "LimitExceeded", status: 409 };
pub(crate) const MALFORMED_POLICY_DOCUMENT: Exception =
    Exception { name: "MalformedPolicyDocument", status: 400 };
pub(crate) const NO_SUCH_ENTITY: Exception = Exception { name: "NoSuchEntity", status: 404 };
pub(crate) const PACKED_POLICY_TOO_LARGE: Exception = Exception { name: "PackedPolicyTooLarge", status: 400 };
pub(crate) const VALIDATION_ERROR: Exception = Exception { name: "ValidationError", status: 400 };
