//! The keys of endpoint tokens: made at the first start, changed by age and by command, and shared
//! by all processes on the same records.
//!
//! A key is on the disk before the first token is made with it, and kept until the last of its
//! tokens has expired. The records have the keys that count, with a version; the file is a node's
//! copy. A node that has had the file and has it no more makes new keys: it was removed so that all
//! tokens end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hearth_api::EndpointTokenKeys;
use hearth_auth::TokenKeys;
use hearth_control_plane::RotationError;
use hearth_records::{NodeId, Setting, Shared, Versioned};
use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::data_dir::{self, write_private};
use crate::token_ring::{RecordedRing, StoredFile, StoredRing, StoredSecret, secret};

const FILE: &str = "endpoint-token-key.json";
/// How often it is looked whether a key is too old.
const PERIOD: Duration = Duration::from_mins(1);
/// Keys at a time.
const KEYS_MAX: usize = 8;

/// The file, before the records are there.
#[derive(Debug)]
pub(crate) struct TokenKeyFile {
    path: PathBuf,
    ring: Option<StoredRing>,
    /// Age in seconds at which the newest key is replaced; `None` is never.
    rotate_after_seconds: Option<i64>,
}

type Kept = Versioned<RecordedRing>;

/// The keys with their file and their record.
#[derive(Debug)]
pub(crate) struct SharedTokenKeys {
    path: PathBuf,
    shared: Arc<dyn Shared>,
    keys: Arc<TokenKeys>,
    kept: Mutex<Kept>,
    rotate_after_seconds: Option<i64>,
}

impl TokenKeyFile {
    /// Reads the keys, if there are some. The newest is replaced when it is older than
    /// `rotate_after_days`; 0 is never.
    pub(crate) fn open(data_dir: &Path, rotate_after_days: u32) -> anyhow::Result<Self> {
        let path = data_dir.join(FILE);
        let stored: Option<StoredFile> = data_dir::read(&path)?;
        let ring = stored.map(|stored| match stored {
            StoredFile::Ring(ring) => ring,
            StoredFile::Single(key) => StoredRing::of(key, Timestamp::now().as_second()),
        });
        if ring.as_ref().is_some_and(|ring| !ring.is_usable()) {
            anyhow::bail!("{} does not hold 256-bit keys", path.display());
        }
        let rotate_after_seconds = (rotate_after_days > 0).then(|| i64::from(rotate_after_days) * 24 * 3600);
        Ok(Self { path, ring, rotate_after_seconds })
    }

    /// The keys that all nodes have which share these records; this one is `node`.
    pub(crate) async fn share(
        self,
        shared: Arc<dyn Shared>,
        node: &NodeId,
    ) -> anyhow::Result<SharedTokenKeys> {
        let Self { path, ring, rotate_after_seconds } = self;
        let made = || StoredRing::of(StoredSecret::random(), Timestamp::now().as_second());
        let kept = loop {
            let Versioned { version, value } = shared.setting(Setting::TokenKeys).await?;
            let recorded = value.as_deref().and_then(RecordedRing::parse);
            let counts = |recorded: &RecordedRing| ring.is_some() || !recorded.nodes.contains(node.as_str());
            let was = recorded.filter(counts);
            let mut value = was.clone().unwrap_or_else(|| ring.clone().unwrap_or_else(made).into());
            value.nodes.insert(node.to_string());
            if was.is_some_and(|was| was == value) {
                break Versioned { version, value };
            }
            let written = shared.write_setting(Setting::TokenKeys, version, &value.text()?).await?;
            if let Some(version) = written {
                break Versioned { version, value };
            }
        };
        if ring.as_ref() != Some(&kept.value.ring) {
            write_private(&path, &serde_json::to_string(&kept.value.ring)?)?;
        }
        let (newest, older) = kept.value.ring.token_keys().context("there is no token key")?;
        let root = secret(&kept.value.ring.root).context("there is no root key")?;
        let keys = Arc::new(TokenKeys::with_root(root, newest, older));
        Ok(SharedTokenKeys { path, shared, keys, kept: Mutex::new(kept), rotate_after_seconds })
    }
}

impl SharedTokenKeys {
    /// What makes and reads tokens.
    pub(crate) fn keys(&self) -> Arc<TokenKeys> {
        Arc::clone(&self.keys)
    }

    /// Replaces what is too old, until this is cancelled.
    pub(crate) async fn keep_rotating(self: Arc<Self>) {
        loop {
            if let Err(error) = self.replace_old(Timestamp::now().as_second()).await {
                tracing::error!(error = &error as &dyn std::error::Error, "the endpoint token keys stay");
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Reads the keys again if this is not their `version`: another process has changed them.
    pub(crate) async fn refresh(&self, version: u64) -> Result<(), RotationError> {
        let mut kept = self.kept.lock().await;
        if kept.version < version { self.read(&mut kept).await } else { Ok(()) }
    }

    /// Makes a new key; `now` in seconds since 1970.
    pub(crate) async fn rotate(&self, now: i64) -> Result<EndpointTokenKeys, RotationError> {
        let mut kept = self.kept.lock().await;
        loop {
            let live = kept.value.ring.without_expired(now);
            if live.keys.len() >= KEYS_MAX {
                return Err(RotationError::TooOften { rotations: live.keys.len() - 1 });
            }
            if self.write(&mut kept, live.with_new(now)).await? {
                break;
            }
        }
        let keys = &kept.value.ring.keys;
        let answer = EndpointTokenKeys { key_id: keys[0].key.kid, live_keys: keys.len() };
        tracing::info!(kid = %answer.key_id, live_keys = answer.live_keys, "the endpoint tokens have a new key");
        Ok(answer)
    }

    /// Makes a new key if the newest is too old, and forgets those whose tokens have expired.
    async fn replace_old(&self, now: i64) -> Result<(), RotationError> {
        {
            let mut kept = self.kept.lock().await;
            let live = kept.value.ring.without_expired(now);
            // Another process that was first has done the same.
            if live.keys.len() < kept.value.ring.keys.len() {
                self.write(&mut kept, live).await?;
            }
            let age = now - kept.value.ring.keys[0].made_at_seconds;
            if self.rotate_after_seconds.is_none_or(|limit| age < limit) {
                return Ok(());
            }
        }
        self.rotate(now).await.map(drop)
    }

    /// Changes the keys; when another process was first, its keys are read instead, and this is
    /// false. In file and record first: no token is made with a key that could be lost.
    async fn write(&self, kept: &mut Kept, ring: StoredRing) -> Result<bool, RotationError> {
        self.write_file(&ring).await?;
        let new = RecordedRing { ring, nodes: kept.value.nodes.clone() };
        let text = new.text().map_err(|error| RotationError::Io(error.into()))?;
        let written = self.shared.write_setting(Setting::TokenKeys, kept.version, &text).await;
        let Some(version) = written.map_err(failed)? else {
            self.read(kept).await?;
            return Ok(false);
        };
        self.adopt(kept, Versioned { version, value: new });
        Ok(true)
    }

    async fn read(&self, kept: &mut Kept) -> Result<(), RotationError> {
        let Versioned { version, value } = self.shared.setting(Setting::TokenKeys).await.map_err(failed)?;
        let unreadable = || RotationError::Io(std::io::Error::other("the recorded keys cannot be read"));
        let value = value.as_deref().and_then(RecordedRing::parse).ok_or_else(unreadable)?;
        self.write_file(&value.ring).await?;
        self.adopt(kept, Versioned { version, value });
        Ok(())
    }

    async fn write_file(&self, ring: &StoredRing) -> Result<(), RotationError> {
        let text = serde_json::to_string(ring).map_err(|error| RotationError::Io(error.into()))?;
        let path = self.path.clone();
        let writing = tokio::task::spawn_blocking(move || write_private(&path, &text));
        let written = writing.await.map_err(|error| RotationError::Io(error.into()))?;
        written.map_err(|error| RotationError::Io(std::io::Error::other(format!("{error:#}"))))
    }

    fn adopt(&self, kept: &mut Kept, new: Kept) {
        let (newest, older) =
            new.value.ring.token_keys().expect("invariant: they were read before or made by us");
        self.keys.replace(newest, older);
        *kept = new;
    }
}

fn failed(error: hearth_records::Error) -> RotationError {
    RotationError::Io(std::io::Error::other(error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use hearth_api::{MicrovmId, PortSpecification};
    use hearth_auth::{Claims, LONGEST_LIFE_SECONDS, TokenError, TokenKey, TokenKind};

    use hearth_records::testing::MemoryRecords;
    use uuid::Uuid;

    use super::*;
    use crate::token_ring::MARGIN_SECONDS;

    const LIVE: i64 = LONGEST_LIFE_SECONDS + MARGIN_SECONDS;

    /// What a node reads at its start.
    async fn open(directory: &Path, records: &Arc<MemoryRecords>, days: u32) -> SharedTokenKeys {
        let file = TokenKeyFile::open(directory, days).unwrap();
        let node = NodeId::from_stored(directory.to_str().unwrap());
        file.share(records.clone(), &node).await.unwrap()
    }

    fn token(file: &SharedTokenKeys) -> String {
        let claims = Claims {
            microvm: MicrovmId::from_stored("microvm-a"),
            ports: vec![PortSpecification::AllPorts {}],
            expires_at_seconds: i64::MAX,
            kind: TokenKind::Http,
            revocations: 0,
        };
        file.keys().issue(&claims).unwrap()
    }

    fn refusal(file: &SharedTokenKeys, token: &str) -> Option<TokenError> {
        file.keys().open(token).err()
    }

    #[tokio::test]
    async fn a_replaced_key_reads_its_tokens_until_they_have_expired() {
        let (directory, records) = (tempfile::tempdir().unwrap(), Arc::new(MemoryRecords::default()));
        let file = open(directory.path(), &records, 0).await;
        let mode = std::fs::metadata(&file.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (now, first, derived) = (Timestamp::now().as_second(), token(&file), file.keys().derive("x"));
        assert_eq!(file.rotate(now).await.unwrap().live_keys, 2);
        let second = token(&file);
        assert_eq!(file.rotate(now + LIVE).await.unwrap().live_keys, 3);
        assert_eq!((refusal(&file, &first), refusal(&file, &second)), (None, None));

        // The same after a restart.
        let file = open(directory.path(), &records, 0).await;
        let third = token(&file);
        assert_eq!((refusal(&file, &first), refusal(&file, &second)), (None, None));
        assert_eq!(file.keys().derive("x"), derived, "pages of lists can still be asked for");
        file.replace_old(now + LIVE + 1).await.unwrap();
        assert_eq!(refusal(&file, &first), Some(TokenError::UnknownKey));
        assert_eq!((refusal(&file, &second), refusal(&file, &third)), (None, None));
        let file = open(directory.path(), &records, 0).await;
        assert_eq!(refusal(&file, &first), Some(TokenError::UnknownKey));
        assert_eq!(std::fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_key_that_is_too_old_is_replaced() {
        let (directory, records) = (tempfile::tempdir().unwrap(), Arc::new(MemoryRecords::default()));
        let file = open(directory.path(), &records, 30).await;
        let kid = async |file: &SharedTokenKeys| file.kept.lock().await.value.ring.keys[0].key.kid;
        let now = file.kept.lock().await.value.ring.keys[0].made_at_seconds;
        let first = kid(&file).await;
        file.replace_old(now + 30 * 24 * 3600 - 1).await.unwrap();
        assert_eq!(kid(&file).await, first);
        file.replace_old(now + 30 * 24 * 3600).await.unwrap();
        assert_ne!(kid(&file).await, first);
    }

    #[tokio::test]
    async fn a_file_of_before_is_read_and_its_tokens_go_on() {
        let (directory, records) = (tempfile::tempdir().unwrap(), Arc::new(MemoryRecords::default()));
        let path = directory.path().join(FILE);
        let stored = format!(r#"{{"kid":"{}","secret":"{}"}}"#, Uuid::from_bytes([7; 16]), "07".repeat(32));
        std::fs::write(&path, stored).unwrap();
        let before = TokenKeys::new(TokenKey { kid: Uuid::from_bytes([7; 16]), secret: [7; 32] }, vec![]);
        let file = open(directory.path(), &records, 0).await;
        assert_eq!(file.keys().derive("x"), before.derive("x"));
        let old = token(&file);
        assert!(before.open(&old).is_ok());
        file.rotate(Timestamp::now().as_second()).await.unwrap();
        assert_eq!(refusal(&file, &old), None);

        std::fs::write(&path, r#"{"root":"00","keys":[]}"#).unwrap();
        let error = TokenKeyFile::open(directory.path(), 0).unwrap_err().to_string();
        assert_eq!(error, format!("{} does not hold 256-bit keys", path.display()));
    }

    #[tokio::test]
    async fn there_are_never_too_many_keys_and_a_failed_write_changes_nothing() {
        let (directory, records) = (tempfile::tempdir().unwrap(), Arc::new(MemoryRecords::default()));
        let file = open(directory.path(), &records, 0).await;
        let now = Timestamp::now().as_second();
        for _ in 1..KEYS_MAX {
            file.rotate(now).await.unwrap();
        }
        assert!(matches!(file.rotate(now).await, Err(RotationError::TooOften { rotations: 7 })));
        let before = token(&file);
        // A directory where the new file would be written.
        std::fs::create_dir(file.path.with_extension("new")).unwrap();
        assert!(matches!(file.rotate(now + 2 * LIVE).await, Err(RotationError::Io(_))));
        assert_eq!(refusal(&file, &before), None);
        assert_eq!(token(&file).split('.').next(), before.split('.').next(), "the key is the same");
    }

    #[tokio::test]
    async fn a_key_that_one_node_makes_the_others_have() {
        let records = Arc::new(MemoryRecords::default());
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let one = open(directories[0].path(), &records, 0).await;
        let other = open(directories[1].path(), &records, 0).await;
        assert_eq!(refusal(&other, &token(&one)), None, "a new node has the keys of the others");
        assert_eq!(one.keys().derive("x"), other.keys().derive("x"));
        let now = Timestamp::now().as_second();
        one.rotate(now).await.unwrap();
        let newest = token(&one);
        assert_eq!(refusal(&other, &newest), Some(TokenError::UnknownKey), "it has not looked yet");
        other.refresh(records.versions().await.unwrap().token_keys).await.unwrap();
        assert_eq!(refusal(&other, &newest), None);

        // Neither loses the other's.
        one.rotate(now).await.unwrap();
        assert_eq!(other.rotate(now).await.unwrap().live_keys, 4);
        assert_eq!(refusal(&other, &token(&one)), None);

        // The operator has removed the file.
        std::fs::remove_file(&one.path).unwrap();
        let one = open(directories[0].path(), &records, 0).await;
        assert_eq!(refusal(&one, &newest), Some(TokenError::UnknownKey));
        let other = open(directories[1].path(), &records, 0).await;
        assert_eq!(refusal(&other, &newest), Some(TokenError::UnknownKey));
        assert_eq!(refusal(&other, &token(&one)), None);
    }
}
