//! What there is in an account.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hearth_api::{AccountId, Timestamp};
use hearth_iam::{Document, DocumentKind, PolicyError, Principal};
use serde::{Deserialize, Serialize};

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// A policy as it was written, and as it was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Shared with the sessions that the policy was passed to.
    text: Arc<str>,
    document: Arc<Document>,
    /// Unique ids of the users and roles that it names, by their ARNs.
    principals: BTreeMap<String, String>,
}

impl Policy {
    /// Reads a policy of at most `limit` characters, white space not counted.
    pub fn parse(text: &str, kind: DocumentKind, limit: usize) -> Result<Self, PolicyError> {
        let document = Arc::new(Document::parse(text, kind, limit)?);
        Ok(Self { text: text.into(), document, principals: BTreeMap::new() })
    }

    /// Ties the users and roles that it names to their unique ids.
    #[must_use]
    pub fn bound(mut self, id_of: impl Fn(&str) -> Option<String>) -> Self {
        let mut found = BTreeMap::new();
        let mut document = Document::clone(&self.document);
        document.bind_principals(|arn| {
            let id = id_of(arn)?;
            found.insert(arn.to_owned(), id.clone());
            Some(id)
        });
        self.document = Arc::new(document);
        self.principals = found;
        self
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Length of its text.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// As it was understood.
    pub fn document(&self) -> &Document {
        &self.document
    }
}

/// How a [`Policy`] is stored.
#[derive(Serialize, Deserialize)]
struct StoredPolicy {
    trust: bool,
    text: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    principals: BTreeMap<String, String>,
}

impl Serialize for Policy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let trust = self.document.kind() == DocumentKind::Trust;
        let (text, principals) = (self.text.to_string(), self.principals.clone());
        StoredPolicy { trust, text, principals }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let StoredPolicy { trust, text, principals } = StoredPolicy::deserialize(deserializer)?;
        let kind = if trust { DocumentKind::Trust } else { DocumentKind::Identity };
        let policy = Self::parse(&text, kind, usize::MAX).map_err(serde::de::Error::custom)?;
        Ok(policy.bound(|arn| principals.get(arn).cloned()))
    }
}

/// Policies of a user or role.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Attachments {
    /// Inline policies by name.
    pub inline: BTreeMap<String, Policy>,
    /// ARNs of managed policies.
    pub managed: BTreeSet<String>,
    /// ARN of the managed policy that limits it.
    pub boundary: Option<String>,
}

/// An access key of a user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    /// Id, `AKIA…`.
    pub id: String,
    /// Secret.
    pub secret: String,
    /// Whether it may be used.
    pub active: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// Account.
    pub account: AccountId,
    /// Begins and ends with a slash.
    pub path: String,
    /// Name; unique in the account without regard to case.
    pub name: String,
    /// Unique id, `AIDA…`.
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its policies.
    pub policies: Attachments,
    /// Its access keys, at most two.
    pub access_keys: Vec<AccessKey>,
    /// Tags.
    pub tags: Tags,
}

impl User {
    /// `arn:aws:iam::<account>:user<path><name>`.
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{}:user{}{}", self.account, self.path, self.name)
    }

    /// Who it is in requests.
    pub fn principal(&self) -> Principal {
        Principal::User {
            account: self.account.clone(),
            path: self.path.clone(),
            name: self.name.clone(),
            id: self.id.clone(),
        }
    }
}

/// A role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Role {
    /// Account.
    pub account: AccountId,
    /// Begins and ends with a slash.
    pub path: String,
    /// Name; unique in the account without regard to case.
    pub name: String,
    /// Unique id, `AROA…`.
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who may assume it.
    pub trust: Policy,
    /// Its policies.
    pub policies: Attachments,
    /// What its author says of it.
    pub description: Option<String>,
    /// Longest session in seconds, 3,600 to 43,200.
    pub maximum_session_seconds: u32,
    /// Tags.
    pub tags: Tags,
}

impl Role {
    /// `arn:aws:iam::<account>:role<path><name>`.
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{}:role{}{}", self.account, self.path, self.name)
    }

    /// Who a session of it is.
    pub fn session(&self, session: &str) -> Principal {
        Principal::AssumedRole {
            account: self.account.clone(),
            path: self.path.clone(),
            role: self.name.clone(),
            id: self.id.clone(),
            session: session.to_owned(),
        }
    }
}

/// A version of a managed policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyVersion {
    /// Number; shown as `v<number>`.
    pub number: u32,
    /// What it says.
    pub policy: Policy,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A managed policy of the account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManagedPolicy {
    /// Account; `aws` for those that are there from the start.
    pub account: AccountId,
    /// Begins and ends with a slash.
    pub path: String,
    /// Name; unique in the account without regard to case.
    pub name: String,
    /// Unique id, `ANPA…`.
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its default version last changed.
    pub updated_at: Timestamp,
    /// What its author says of it.
    pub description: Option<String>,
    /// At most five, oldest first.
    pub versions: Vec<PolicyVersion>,
    /// The version that counts.
    pub default_version: u32,
    /// Number of the newest version that there ever was.
    pub last_version: u32,
    /// Tags.
    pub tags: Tags,
}

impl ManagedPolicy {
    /// `arn:aws:iam::<account>:policy<path><name>`.
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{}:policy{}{}", self.account, self.path, self.name)
    }

    /// The version that counts.
    pub fn default(&self) -> Option<&PolicyVersion> {
        self.versions.iter().find(|version| version.number == self.default_version)
    }
}
