//! Policies in and out of the query protocol.

use hearth_iam::{DocumentKind, PolicyError};
use hearth_identity::Policy;
use hearth_service::Error;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::errors::{LIMIT_EXCEEDED, MALFORMED_POLICY_DOCUMENT};

/// Unreserved characters of RFC 3986 stay as they are.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Reads a policy of at most `limit` characters, white space not counted; `quota` names the limit.
pub(crate) fn read(text: &str, kind: DocumentKind, quota: &str, limit: usize) -> Result<Policy, Error> {
    Policy::parse(text, kind, limit).map_err(|error| match error {
        PolicyError::TooLong { .. } => {
            Error::new(LIMIT_EXCEEDED, format!("Cannot exceed quota for {quota}: {limit}"))
        }
        too_long @ PolicyError::TooManyBytes { .. } => Error::new(LIMIT_EXCEEDED, too_long.to_string()),
        other => Error::new(MALFORMED_POLICY_DOCUMENT, other.to_string()),
    })
}

/// Characters that count for a quota.
pub(crate) fn length(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

/// Most bytes that [`encoded`] makes of it.
pub(super) fn encoded_bytes(policy: &Policy) -> usize {
    policy.bytes() * 3
}

/// As IAM's answers have it: URL-encoded (IAM API reference, GetRolePolicy).
pub(super) fn encoded(policy: &Policy) -> String {
    utf8_percent_encode(policy.text(), RESERVED).to_string()
}
