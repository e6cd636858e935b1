//! Secrets of the server: the access keys of the accounts' root users, made at the first start, and the key of endpoint
//! tokens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use hearth_api::AccountId;
use hearth_auth::{TokenKey, TokenKeys};
use hearth_identity::RootKey;
use serde::{Deserialize, Serialize};

use crate::data_dir::write_private;

/// A file with an account's access key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredCredentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) account_id: String,
}

#[derive(Serialize, Deserialize)]
struct StoredTokenKey {
    kid: uuid::Uuid,
    secret: String,
}

/// File name of the first account's credentials.
const CREDENTIALS_FILE: &str = "credentials.json";
/// Directory of the other accounts' credentials.
const ACCOUNTS_DIRECTORY: &str = "accounts";
const TOKEN_KEY_FILE: &str = "endpoint-token-key.json";

/// Reads or makes the key of an account's root user. That of the first account is in [`CREDENTIALS_FILE`], the others'
/// are in `accounts/<account>.json`.
pub(crate) fn root_key(data_dir: &Path, account: &AccountId, first: bool) -> anyhow::Result<RootKey> {
    let stored = stored_credentials(&credentials_file(data_dir, (!first).then_some(account)), account)?;
    Ok(RootKey {
        account: account.clone(),
        access_key: stored.access_key_id,
        secret: stored.secret_access_key,
    })
}

/// Where the key of an account is; `None` for the first account.
pub(crate) fn credentials_file(data_dir: &Path, account: Option<&AccountId>) -> PathBuf {
    match account {
        None => data_dir.join(CREDENTIALS_FILE),
        Some(account) => data_dir.join(ACCOUNTS_DIRECTORY).join(format!("{account}.json")),
    }
}

fn stored_credentials(path: &Path, account: &AccountId) -> anyhow::Result<StoredCredentials> {
    if let Some(stored) = read(path)? {
        return Ok(stored);
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let made = StoredCredentials {
        access_key_id: format!("AKIA{}", hex::encode_upper(rand::random::<[u8; 8]>())),
        secret_access_key: hearth_identity::secret(),
        account_id: account.to_string(),
    };
    write_private(path, &serde_json::to_string_pretty(&made)?)?;
    Ok(made)
}

/// Reads or makes the key of endpoint tokens.
pub(crate) fn token_keys(data_dir: &Path) -> anyhow::Result<Arc<TokenKeys>> {
    let path = data_dir.join(TOKEN_KEY_FILE);
    let stored: StoredTokenKey = if let Some(stored) = read(&path)? {
        stored
    } else {
        let secret = hex::encode(rand::random::<[u8; 32]>());
        let made = StoredTokenKey { kid: uuid::Uuid::new_v4(), secret };
        write_private(&path, &serde_json::to_string(&made)?)?;
        made
    };
    let mut secret = [0; 32];
    hex::decode_to_slice(&stored.secret, &mut secret)
        .with_context(|| format!("{} holds no 256-bit key", path.display()))?;
    Ok(Arc::new(TokenKeys::new(TokenKey { kid: stored.kid, secret }, Vec::new())))
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(
            serde_json::from_slice(&text).with_context(|| format!("{} is not readable", path.display()))?,
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
