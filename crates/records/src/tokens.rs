//! Idempotency: a `clientToken` names the answer that was given to it.

use std::fmt;

use async_trait::async_trait;
use hearth_api::{AccountId, Timestamp};

use crate::error::Result;

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

/// Client tokens, as they are kept.
#[async_trait]
pub trait Tokens: Send + Sync + fmt::Debug {
    /// What a token stands for already, if anything: lets a handler answer before it validates
    /// anything else.
    async fn client_token(&self, token: &ClientToken) -> Result<TokenClaim>;

    /// Removes up to a thousand client tokens that were first used before a moment. True when there
    /// may be more.
    async fn sweep_client_tokens(&self, before: Timestamp) -> Result<bool>;
}
