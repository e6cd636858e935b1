//! What belongs to an access key.

use std::fmt;

use hearth_api::AccountId;

use super::denial::Denial;

/// What belongs to an access key.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Secret access key.
    pub secret: String,
    /// Account that the key speaks for.
    pub account: AccountId,
    /// Token that must come with temporary credentials.
    pub session_token: Option<String>,
}

/// What is found for an access key; or that nobody has it, or that it has expired.
pub type Lookup = Result<Credential, Denial>;

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("account", &self.account).finish_non_exhaustive()
    }
}
