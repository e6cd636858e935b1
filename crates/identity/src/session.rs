//! Temporary credentials (IAM user guide, "Temporary security credentials in IAM").

use hearth_api::{AccountId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::entities::Policy;
use crate::unique::{secret, unique_id};

/// Whose rights a session has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SessionOf {
    /// The root user.
    Root,
    /// A user.
    User {
        /// Name.
        name: String,
        /// Unique id; a later user of the same name is another one.
        id: String,
    },
    /// A role.
    Role {
        /// Name.
        name: String,
        /// Unique id; a later role of the same name is another one.
        id: String,
        /// Session name.
        session: String,
    },
}

/// Temporary credentials.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Access key, `ASIA…`.
    pub access_key: String,
    /// Secret access key.
    pub secret: String,
    /// Session token.
    pub token: String,
    /// Account.
    pub account: AccountId,
    /// Whose rights it has.
    pub of: SessionOf,
    /// What further limits it; `None` when nothing was passed.
    pub policies: Option<Vec<Policy>>,
    /// When it was made.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("access_key", &self.access_key)
            .field("account", &self.account)
            .field("of", &self.of)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Fresh credentials that are valid for `seconds` from now.
    pub fn new(account: AccountId, of: SessionOf, policies: Option<Vec<Policy>>, seconds: u32) -> Self {
        let issued_at = Timestamp::now();
        let expires_at = Timestamp::from_millis(issued_at.as_millis() + i64::from(seconds) * 1000);
        Self {
            access_key: unique_id("ASIA"),
            secret: secret(),
            token: format!("{}{}", secret(), secret()),
            account,
            of,
            policies,
            issued_at,
            expires_at,
        }
    }
}
