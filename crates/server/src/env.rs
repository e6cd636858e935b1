//! `hearth env`: what AWS clients need to talk to this server.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use hearth_api::AccountId;
use serde::{Deserialize, Serialize};

use crate::access::{StoredCredentials, credentials_file};
use crate::data_dir::write_private;

/// Arguments of `hearth env`.
#[derive(Debug, Args)]
pub(crate) struct EnvArgs {
    /// Data directory of the server
    #[arg(long)]
    data_dir: PathBuf,
    /// Account, if not the first one
    #[arg(long)]
    account: Option<String>,
}

/// `server.json` in the data directory: where the server that last started can be found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServerAddress {
    pub(crate) api_url: String,
    pub(crate) endpoint_addr: String,
    pub(crate) region: String,
    pub(crate) endpoint_domain: String,
}

impl ServerAddress {
    const FILE: &str = "server.json";

    /// Writes the file.
    pub(crate) fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        write_private(&data_dir.join(Self::FILE), &serde_json::to_string_pretty(self)?)
    }
}

/// Prints the export lines.
#[expect(clippy::print_stdout, reason = "the lines are what the command is for")]
pub(crate) fn run(args: &EnvArgs) -> anyhow::Result<()> {
    let directory = std::path::absolute(&args.data_dir)?;
    let account = args.account.as_ref().map(AccountId::from_stored);
    let first: StoredCredentials = read(&credentials_file(&directory, None))?;
    let other = account.filter(|account| account.as_str() != first.account_id);
    let credentials: StoredCredentials = match other {
        None => first,
        Some(account) => of_another(&directory, &account)?,
    };
    let server: ServerAddress = read(&directory.join(ServerAddress::FILE))?;
    let ca_bundle = directory.join("ca/ca.pem");
    let lines = [
        ("AWS_ENDPOINT_URL", server.api_url.as_str()),
        ("AWS_ACCESS_KEY_ID", &credentials.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", &credentials.secret_access_key),
        ("AWS_REGION", &server.region),
        ("AWS_DEFAULT_REGION", &server.region),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        // Some operations put a label before the host's name, which an address on
        // loopback cannot have.
        ("AWS_DISABLE_HOST_PREFIX_INJECTION", "true"),
        ("HEARTH_CA_BUNDLE", &ca_bundle.to_string_lossy()),
    ];
    for (name, value) in lines {
        println!("export {name}={}", quoted(value));
    }
    Ok(())
}

fn of_another(directory: &Path, account: &AccountId) -> anyhow::Result<StoredCredentials> {
    let path = credentials_file(directory, Some(account));
    ensure!(
        path.exists(),
        "the account {account} has no key: it is not in `accounts` of the configuration, or was not when the server started"
    );
    read(&path)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read(path).with_context(|| {
        format!("cannot read {}; start the server first: hearth serve --data-dir DIR", path.display())
    })?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not readable", path.display()))
}

/// Quotes a value for a POSIX shell where it needs it.
fn quoted(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,[]".contains(&byte);
    if value.bytes().all(plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_only_where_needed() {
        assert_eq!(quoted("http://127.0.0.1:9400"), "http://127.0.0.1:9400");
        assert_eq!(quoted("/it's here"), r"'/it'\''s here'");
    }

    #[test]
    fn an_account_that_is_not_served_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let told =
            of_another(directory.path(), &AccountId::from_stored("111122223333")).unwrap_err().to_string();
        assert!(told.starts_with("the account 111122223333 has no key: it is not in `accounts`"), "{told}");
    }
}
