//! Temporary credentials (IAM user guide, "Temporary security credentials in IAM").

use std::collections::HashSet;

use hearth_api::{AccountId, Timestamp};
use hearth_iam::Principal;
use serde::{Deserialize, Serialize};

use crate::caller::Caller;
use crate::entities::{Policy, Tags};
use crate::unique::{secret, unique_id};

/// Most users and roles that a session depends on. Each is looked for at each request
/// that the session makes.
pub const MAXIMUM_ORIGINS: usize = 16;

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

/// Somebody without whom a session would not have been made.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Origin {
    /// The root user, by the key that it had.
    RootKey(String),
    /// A user.
    User {
        /// Account.
        account: AccountId,
        /// Name.
        name: String,
        /// Unique id.
        id: String,
    },
    /// A role.
    Role {
        /// Account.
        account: AccountId,
        /// Name.
        name: String,
        /// Unique id.
        id: String,
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
    /// Who asked for it, and for the session that asked: it ends with any of them.
    #[serde(default)]
    pub origins: Vec<Origin>,
    /// Tags that were passed with it.
    #[serde(default)]
    pub tags: Tags,
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
            origins: Vec::new(),
            tags: Tags::new(),
            policies,
            issued_at,
            expires_at,
        }
    }

    /// Ties it to its maker, and to those to whom the maker's own session is tied, each once: a
    /// role that assumes itself again and again stays one.
    #[must_use]
    pub fn made_by(mut self, caller: &Caller) -> Self {
        let earlier = caller.session.as_ref().map(|session| session.origins.clone());
        self.origins = earlier.unwrap_or_default();
        let origin = match &caller.principal {
            Principal::User { account, name, id, .. } => {
                Some(Origin::User { account: account.clone(), name: name.clone(), id: id.clone() })
            }
            Principal::AssumedRole { account, role, id, .. } => {
                Some(Origin::Role { account: account.clone(), name: role.clone(), id: id.clone() })
            }
            // A session of the root user has the key among its origins already.
            Principal::Root { .. } if caller.session.is_none() => {
                Some(Origin::RootKey(caller.access_key.clone()))
            }
            Principal::Root { .. } | Principal::Service { .. } => None,
        };
        self.origins.extend(origin);
        self.origins = distinct(self.origins);
        self
    }
}

/// Each of these once, where it is first.
pub(crate) fn distinct(origins: Vec<Origin>) -> Vec<Origin> {
    let mut seen = HashSet::new();
    origins.into_iter().filter(|origin| seen.insert(origin.clone())).collect()
}
