//! Idempotency: a `clientToken` names the answer that was given to it.

use hearth_api::AccountId;

/// A `clientToken` with what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientToken {
    /// Caller.
    pub account: AccountId,
    /// Operation name.
    pub operation: &'static str,
    /// The token.
    pub token: String,
    /// Hash of the request without the token.
    pub parameters_hash: String,
    /// JSON body to give again.
    pub answer: String,
}

/// An answer kept under a `clientToken`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenClaim {
    /// The token is new; the resource was recorded with it.
    Fresh,
    /// Same parameters: give this stored answer again.
    Replay(String),
    /// Other parameters under the same token.
    Mismatch,
}
