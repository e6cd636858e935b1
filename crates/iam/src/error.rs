//! Why a policy was refused.

/// Why a policy was refused: one sentence for the author of the policy.
///
/// `TooLong` and `TooManyBytes` are IAM's LimitExceeded, the others are its
/// MalformedPolicyDocument.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Longer than the caller allows.
    #[error("The policy has {length} characters, white space not counted; at most {limit} are allowed.")]
    TooLong {
        /// Characters that are not white space.
        length: usize,
        /// The caller's limit.
        limit: usize,
    },
    /// Longer with its white space than the caller's limit leaves room for.
    #[error("The policy has {bytes} bytes with its white space; at most {limit} are allowed.")]
    TooManyBytes {
        /// Length of the text.
        bytes: usize,
        /// Longest text.
        limit: usize,
    },
    /// Not JSON, or an object with the same key twice.
    #[error("The policy is not well-formed JSON: {0}.")]
    NotJson(String),
    /// Something outside of the statements.
    #[error("{0}")]
    Document(String),
    /// Something in a statement.
    #[error("Statement {number}: {problem}")]
    Statement {
        /// Position in the policy, from 1.
        number: usize,
        /// What is wrong, and what would be right.
        problem: String,
    },
}
