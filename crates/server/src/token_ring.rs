//! The keys of endpoint tokens as they are stored.

use std::collections::BTreeSet;

use hearth_auth::{LONGEST_LIFE_SECONDS, TokenKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How much longer than its tokens can live a key is kept, in seconds, for clocks
/// that are set back.
pub(crate) const MARGIN_SECONDS: i64 = 5 * 60;

/// The file. Before keys changed it held one, from which others were derived as well.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum StoredFile {
    Ring(StoredRing),
    Single(StoredSecret),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredSecret {
    pub(crate) kid: Uuid,
    secret: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoredRing {
    /// What other keys are derived from; it does not change.
    pub(crate) root: String,
    /// The newest first.
    pub(crate) keys: Vec<StoredKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoredKey {
    #[serde(flatten)]
    pub(crate) key: StoredSecret,
    pub(crate) made_at_seconds: i64,
}

/// As it is recorded for all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedRing {
    #[serde(flatten)]
    pub(crate) ring: StoredRing,
    /// The nodes that have it in a file.
    pub(crate) nodes: BTreeSet<String>,
}

impl From<StoredRing> for RecordedRing {
    fn from(ring: StoredRing) -> Self {
        Self { ring, nodes: BTreeSet::new() }
    }
}

impl RecordedRing {
    pub(crate) fn text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|recorded: &Self| recorded.ring.is_usable())
    }
}

impl StoredRing {
    /// With one key, which others are derived from as well.
    pub(crate) fn of(key: StoredSecret, now: i64) -> Self {
        Self { root: key.secret.clone(), keys: vec![StoredKey { key, made_at_seconds: now }] }
    }

    /// Without the keys that were replaced so long ago that all their tokens have expired.
    pub(crate) fn without_expired(&self, now: i64) -> Self {
        let replaced_at = |index: usize| self.keys[index - 1].made_at_seconds;
        let live =
            |index: usize| index == 0 || now - replaced_at(index) <= LONGEST_LIFE_SECONDS + MARGIN_SECONDS;
        let keys = (0..self.keys.len()).filter(|index| live(*index)).map(|index| self.keys[index].clone());
        Self { root: self.root.clone(), keys: keys.collect() }
    }

    /// With a new key before the others.
    pub(crate) fn with_new(&self, now: i64) -> Self {
        let new = StoredKey { key: StoredSecret::random(), made_at_seconds: now };
        Self {
            root: self.root.clone(),
            keys: std::iter::once(new).chain(self.keys.iter().cloned()).collect(),
        }
    }

    /// Whether all are 256-bit keys.
    pub(crate) fn is_usable(&self) -> bool {
        self.token_keys().is_some() && secret(&self.root).is_some()
    }

    /// The newest key and the others; `None` unless all have 256 bits.
    pub(crate) fn token_keys(&self) -> Option<(TokenKey, Vec<TokenKey>)> {
        let mut keys: Vec<TokenKey> = self
            .keys
            .iter()
            .map(|stored| Some(TokenKey { kid: stored.key.kid, secret: secret(&stored.key.secret)? }))
            .collect::<Option<_>>()?;
        (!keys.is_empty()).then(|| (keys.remove(0), keys))
    }
}

impl StoredSecret {
    pub(crate) fn random() -> Self {
        Self { kid: Uuid::new_v4(), secret: hex::encode(rand::random::<[u8; 32]>()) }
    }
}

pub(crate) fn secret(text: &str) -> Option<[u8; 32]> {
    let mut secret = [0; 32];
    hex::decode_to_slice(text, &mut secret).ok()?;
    Some(secret)
}
