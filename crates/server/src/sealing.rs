//! The key with which payloads of run hooks are sealed: made at the first start, kept in the data
//! directory, beside the database and not in it.

use std::path::Path;

use anyhow::Context as _;
use hearth_lifecycle::SealingKey;

use crate::data_dir::{read, write_private};

const FILE: &str = "payload-key.json";

/// Reads the key, or makes one. It is on the disk before anything is sealed with it.
pub(crate) fn key(data_dir: &Path) -> anyhow::Result<SealingKey> {
    let path = data_dir.join(FILE);
    let key: [u8; 32] = if let Some(key) = read(&path)? {
        key
    } else {
        let key: [u8; 32] = std::array::from_fn(|_| rand::random());
        write_private(&path, &serde_json::to_string(&key)?)?;
        key
    };
    SealingKey::new(&key).context("cannot make a key for the payloads of run hooks")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_and_half_of_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        key(directory.path()).unwrap();
        let path = directory.path().join(FILE);
        let made = std::fs::read(&path).unwrap();
        key(directory.path()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), made);
        std::fs::write(&path, "[1, 2]").unwrap();
        let refused = format!("{:#}", key(directory.path()).unwrap_err());
        assert!(refused.contains("payload-key.json is not readable"), "{refused}");
    }
}
