//! The access keys of the accounts' root users, made at the first start.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hearth_api::AccountId;
use hearth_identity::RootKey;
use serde::{Deserialize, Serialize};

use crate::data_dir::{read, write_private};

/// A file with an account's access key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredCredentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) account_id: String,
}

/// File name of the first account's credentials.
const CREDENTIALS_FILE: &str = "credentials.json";
/// Directory of the other accounts' credentials.
const ACCOUNTS_DIRECTORY: &str = "accounts";

/// Reads or makes the key of an account's root user. That of the first account is in
/// [`CREDENTIALS_FILE`], the others' are in `accounts/<account>.json`.
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
