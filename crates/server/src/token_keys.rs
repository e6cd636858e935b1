//! The keys of endpoint tokens on the disk: made at the first start, changed by age and by command.
//!
//! A key is written before the first token is made with it, and kept until the last of
//! its tokens has expired.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use hearth_api::EndpointTokenKeys;
use hearth_auth::{LONGEST_LIFE_SECONDS, TokenKey, TokenKeys};
use hearth_control_plane::RotationError;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::data_dir::{self, write_private};

const FILE: &str = "endpoint-token-key.json";
/// How often it is looked whether a key is too old.
const PERIOD: Duration = Duration::from_mins(1);
/// How much longer than its tokens can live a key is kept, in seconds, for clocks
/// that are set back.
const MARGIN_SECONDS: i64 = 5 * 60;
/// Keys at a time.
const KEYS_MAX: usize = 8;

/// The file. Before keys changed it held one, from which others were derived as well.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredFile {
    Ring(StoredRing),
    Single(StoredSecret),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredSecret {
    kid: Uuid,
    secret: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredRing {
    /// What other keys are derived from; it does not change.
    root: String,
    /// The newest first.
    keys: Vec<StoredKey>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredKey {
    #[serde(flatten)]
    key: StoredSecret,
    made_at_seconds: i64,
}

/// The keys with their file.
#[derive(Debug)]
pub(crate) struct TokenKeyFile {
    path: PathBuf,
    keys: Arc<TokenKeys>,
    ring: Mutex<StoredRing>,
    /// Age in seconds at which the newest key is replaced; `None` is never.
    rotate_after_seconds: Option<i64>,
}

impl TokenKeyFile {
    /// Reads or makes the keys. The newest is replaced when it is older than `rotate_after_days`; 0
    /// is never.
    pub(crate) fn open(data_dir: &Path, rotate_after_days: u32) -> anyhow::Result<Self> {
        let path = data_dir.join(FILE);
        let now = Timestamp::now().as_second();
        let stored: Option<StoredFile> = data_dir::read(&path)?;
        let (ring, written) = match stored {
            Some(StoredFile::Ring(ring)) => (ring, true),
            Some(StoredFile::Single(key)) => (StoredRing::of(key, now), false),
            None => (StoredRing::of(StoredSecret::random(), now), false),
        };
        if !written {
            write_private(&path, &serde_json::to_string(&ring)?)?;
        }
        let unusable = || format!("{} does not hold 256-bit keys", path.display());
        let (newest, older) = ring.token_keys().with_context(unusable)?;
        let root = secret(&ring.root).with_context(unusable)?;
        Ok(Self {
            keys: Arc::new(TokenKeys::with_root(root, newest, older)),
            path,
            ring: Mutex::new(ring),
            rotate_after_seconds: (rotate_after_days > 0).then(|| i64::from(rotate_after_days) * 24 * 3600),
        })
    }

    /// What makes and reads tokens.
    pub(crate) fn keys(&self) -> Arc<TokenKeys> {
        Arc::clone(&self.keys)
    }

    /// Replaces what is too old, until this is cancelled.
    pub(crate) async fn keep_rotating(self: Arc<Self>) {
        loop {
            let file = Arc::clone(&self);
            let looked =
                tokio::task::spawn_blocking(move || file.replace_old(Timestamp::now().as_second())).await;
            if let Ok(Err(error)) = looked {
                tracing::error!(error = &error as &dyn std::error::Error, "the endpoint token keys stay");
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Makes a new key; `now` in seconds since 1970.
    pub(crate) fn rotate(&self, now: i64) -> Result<EndpointTokenKeys, RotationError> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rotated = ring.without_expired(now);
        if rotated.keys.len() >= KEYS_MAX {
            return Err(RotationError::TooOften { rotations: rotated.keys.len() - 1 });
        }
        rotated.keys.insert(0, StoredKey { key: StoredSecret::random(), made_at_seconds: now });
        self.adopt(&mut ring, rotated)?;
        let answer = EndpointTokenKeys { key_id: ring.keys[0].key.kid, live_keys: ring.keys.len() };
        tracing::info!(kid = %answer.key_id, live_keys = answer.live_keys, "the endpoint tokens have a new key");
        Ok(answer)
    }

    /// Makes a new key if the newest is too old, and forgets those whose tokens have expired.
    fn replace_old(&self, now: i64) -> Result<(), RotationError> {
        {
            let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = ring.without_expired(now);
            if kept.keys.len() < ring.keys.len() {
                self.adopt(&mut ring, kept)?;
            }
            let age = now - ring.keys[0].made_at_seconds;
            if self.rotate_after_seconds.is_none_or(|limit| age < limit) {
                return Ok(());
            }
        }
        self.rotate(now).map(drop)
    }

    /// On the disk first: no token is made with a key that could be lost.
    fn adopt(&self, ring: &mut StoredRing, new: StoredRing) -> Result<(), RotationError> {
        let text = serde_json::to_string(&new).map_err(|error| RotationError::Io(error.into()))?;
        write_private(&self.path, &text)
            .map_err(|error| RotationError::Io(std::io::Error::other(format!("{error:#}"))))?;
        let (newest, older) = new.token_keys().expect("invariant: they were read before or made by us");
        self.keys.replace(newest, older);
        *ring = new;
        Ok(())
    }
}

impl StoredRing {
    /// With one key, which others are derived from as well.
    fn of(key: StoredSecret, now: i64) -> Self {
        Self { root: key.secret.clone(), keys: vec![StoredKey { key, made_at_seconds: now }] }
    }

    /// Without the keys that were replaced so long ago that all their tokens have expired.
    fn without_expired(&self, now: i64) -> Self {
        let replaced_at = |index: usize| self.keys[index - 1].made_at_seconds;
        let live =
            |index: usize| index == 0 || now - replaced_at(index) <= LONGEST_LIFE_SECONDS + MARGIN_SECONDS;
        let keys = (0..self.keys.len()).filter(|index| live(*index)).map(|index| self.keys[index].clone());
        Self { root: self.root.clone(), keys: keys.collect() }
    }

    fn token_keys(&self) -> Option<(TokenKey, Vec<TokenKey>)> {
        let mut keys: Vec<TokenKey> = self
            .keys
            .iter()
            .map(|stored| Some(TokenKey { kid: stored.key.kid, secret: secret(&stored.key.secret)? }))
            .collect::<Option<_>>()?;
        (!keys.is_empty()).then(|| (keys.remove(0), keys))
    }
}

impl StoredSecret {
    fn random() -> Self {
        Self { kid: Uuid::new_v4(), secret: hex::encode(rand::random::<[u8; 32]>()) }
    }
}

fn secret(text: &str) -> Option<[u8; 32]> {
    let mut secret = [0; 32];
    hex::decode_to_slice(text, &mut secret).ok()?;
    Some(secret)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use hearth_api::{MicrovmId, PortSpecification};
    use hearth_auth::{Claims, TokenError, TokenKind};

    use super::*;

    const LIVE: i64 = LONGEST_LIFE_SECONDS + MARGIN_SECONDS;

    fn token(file: &TokenKeyFile) -> String {
        let claims = Claims {
            microvm: MicrovmId::from_stored("microvm-a"),
            ports: vec![PortSpecification::AllPorts {}],
            expires_at_seconds: i64::MAX,
            kind: TokenKind::Http,
            revocations: 0,
        };
        file.keys().issue(&claims).unwrap()
    }

    fn refusal(file: &TokenKeyFile, token: &str) -> Option<TokenError> {
        file.keys().open(token).err()
    }

    #[test]
    fn a_replaced_key_reads_its_tokens_until_they_have_expired() {
        let directory = tempfile::tempdir().unwrap();
        let file = TokenKeyFile::open(directory.path(), 0).unwrap();
        let mode = std::fs::metadata(&file.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (now, first, derived) = (Timestamp::now().as_second(), token(&file), file.keys().derive("x"));
        assert_eq!(file.rotate(now).unwrap().live_keys, 2);
        let second = token(&file);
        assert_eq!(file.rotate(now + LIVE).unwrap().live_keys, 3);
        assert_eq!((refusal(&file, &first), refusal(&file, &second)), (None, None));

        // The same after a restart.
        let file = TokenKeyFile::open(directory.path(), 0).unwrap();
        let third = token(&file);
        assert_eq!((refusal(&file, &first), refusal(&file, &second)), (None, None));
        assert_eq!(file.keys().derive("x"), derived, "pages of lists can still be asked for");
        file.replace_old(now + LIVE + 1).unwrap();
        assert_eq!(refusal(&file, &first), Some(TokenError::UnknownKey));
        assert_eq!((refusal(&file, &second), refusal(&file, &third)), (None, None));
        let file = TokenKeyFile::open(directory.path(), 0).unwrap();
        assert_eq!(refusal(&file, &first), Some(TokenError::UnknownKey));
        assert_eq!(std::fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_is_too_old_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let file = TokenKeyFile::open(directory.path(), 30).unwrap();
        let kid = |file: &TokenKeyFile| file.ring.lock().unwrap().keys[0].key.kid;
        let now = file.ring.lock().unwrap().keys[0].made_at_seconds;
        let first = kid(&file);
        file.replace_old(now + 30 * 24 * 3600 - 1).unwrap();
        assert_eq!(kid(&file), first);
        file.replace_old(now + 30 * 24 * 3600).unwrap();
        assert_ne!(kid(&file), first);
    }

    #[test]
    fn a_file_of_before_is_read_and_its_tokens_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let stored = format!(r#"{{"kid":"{}","secret":"{}"}}"#, Uuid::from_bytes([7; 16]), "07".repeat(32));
        std::fs::write(&path, stored).unwrap();
        let before = TokenKeys::new(TokenKey { kid: Uuid::from_bytes([7; 16]), secret: [7; 32] }, vec![]);
        let file = TokenKeyFile::open(directory.path(), 0).unwrap();
        assert_eq!(file.keys().derive("x"), before.derive("x"));
        let old = token(&file);
        assert!(before.open(&old).is_ok());
        file.rotate(Timestamp::now().as_second()).unwrap();
        assert_eq!(refusal(&file, &old), None);

        std::fs::write(&path, r#"{"root":"00","keys":[]}"#).unwrap();
        let error = TokenKeyFile::open(directory.path(), 0).unwrap_err().to_string();
        assert_eq!(error, format!("{} does not hold 256-bit keys", path.display()));
    }

    #[test]
    fn there_are_never_too_many_keys_and_a_failed_write_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = TokenKeyFile::open(directory.path(), 0).unwrap();
        let now = Timestamp::now().as_second();
        for _ in 1..KEYS_MAX {
            file.rotate(now).unwrap();
        }
        assert!(matches!(file.rotate(now), Err(RotationError::TooOften { rotations: 7 })));
        let before = token(&file);
        // A directory where the new file would be written.
        std::fs::create_dir(file.path.with_extension("new")).unwrap();
        assert!(matches!(file.rotate(now + 2 * LIVE), Err(RotationError::Io(_))));
        assert_eq!(refusal(&file, &before), None);
        assert_eq!(token(&file).split('.').next(), before.split('.').next(), "the key is the same");
    }
}
