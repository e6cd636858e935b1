//! Where the server is and with which key requests are signed: from a data directory or
//! from the environment.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

/// Which server a command talks to.
#[derive(Debug, Args)]
pub(crate) struct ConnectionArgs {
    /// Data directory of a server on this machine. Without it, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY, AWS_REGION and HEARTH_CA_BUNDLE say where the server is.
    #[arg(long, env = "HEARTH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// A server and an identity on it.
#[derive(Clone)]
pub(crate) struct Connection {
    /// `http://host:port` of the API.
    pub(crate) api: Url,
    /// Region to sign for.
    pub(crate) region: String,
    /// Access key id.
    pub(crate) access_key: String,
    /// Its secret.
    pub(crate) secret: String,
    /// Session token of temporary credentials.
    pub(crate) session_token: Option<String>,
    /// PEM file with the certificates that endpoints are trusted by.
    pub(crate) ca_bundle: Option<PathBuf>,
}

/// `server.json`, which a server writes when it is ready.
#[derive(Deserialize)]
struct ServerFile {
    api_url: String,
    region: String,
}

/// `credentials.json`, which a server writes at its first start.
#[derive(Deserialize)]
struct CredentialsFile {
    access_key_id: String,
    secret_access_key: String,
}

impl ConnectionArgs {
    /// Reads the data directory if there is one, else the environment.
    pub(crate) fn resolve(&self) -> anyhow::Result<Connection> {
        match &self.data_dir {
            Some(directory) => Connection::from_data_dir(directory),
            None => {
                Connection::from_variables(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
            }
        }
    }
}

impl Connection {
    /// The API's address as people write it.
    pub(crate) fn address(&self) -> &str {
        self.api.as_str().trim_end_matches('/')
    }

    fn from_data_dir(directory: &Path) -> anyhow::Result<Self> {
        let server: ServerFile = read_json(directory, "server.json")?;
        let credentials: CredentialsFile = read_json(directory, "credentials.json")?;
        Ok(Self {
            api: parse_url(&server.api_url)?,
            region: server.region,
            access_key: credentials.access_key_id,
            secret: credentials.secret_access_key,
            session_token: None,
            ca_bundle: Some(directory.join("ca").join("ca.pem")),
        })
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let needed = |name: &str| {
            variable(name).ok_or_else(|| {
                anyhow!(
                    "{name} is not set; name the server by --data-dir DIR, or run `eval \"$(hearth env --data-dir DIR)\"`"
                )
            })
        };
        Ok(Self {
            api: parse_url(&needed("AWS_ENDPOINT_URL")?)?,
            region: variable("AWS_REGION")
                .or_else(|| variable("AWS_DEFAULT_REGION"))
                .unwrap_or_else(|| "us-east-1".to_owned()),
            access_key: needed("AWS_ACCESS_KEY_ID")?,
            secret: needed("AWS_SECRET_ACCESS_KEY")?,
            session_token: variable("AWS_SESSION_TOKEN"),
            ca_bundle: variable("HEARTH_CA_BUNDLE").map(PathBuf::from),
        })
    }
}

fn parse_url(text: &str) -> anyhow::Result<Url> {
    let url = Url::parse(text).with_context(|| format!("{text} is not the address of an API"))?;
    match (url.scheme(), url.host()) {
        ("http" | "https", Some(_)) => Ok(url),
        _ => Err(anyhow!("{text} is not the address of an API: it must begin with http:// or https://")),
    }
}

fn read_json<T: DeserializeOwned>(directory: &Path, file: &str) -> anyhow::Result<T> {
    let path = directory.join(file);
    let text = fs::read(&path).with_context(|| {
        let directory = directory.display();
        format!("{directory} is not the data directory of a server that runs; start one with `hearth serve --data-dir {directory}`")
    })?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not readable", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> anyhow::Result<Connection> {
        Connection::from_variables(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_of_aws_clients_is_enough() {
        let base = [
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9400"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
        ];
        let connection = variables(&base).unwrap();
        assert_eq!((connection.api.port(), connection.region.as_str()), (Some(9400), "eu-west-1"));
        let error = variables(&base[..2]).err().unwrap().to_string();
        assert!(error.starts_with("AWS_SECRET_ACCESS_KEY is not set; name the server"), "{error}");
    }

    #[test]
    fn addresses_without_a_scheme_are_refused() {
        assert!(parse_url("localhost:9400").is_err());
        assert!(parse_url("127.0.0.1:9400").is_err());
        assert!(parse_url("https://example.test").is_ok());
    }

    #[test]
    fn a_directory_without_a_server_says_how_to_start_one() {
        let error = Connection::from_data_dir(Path::new("/nonexistent")).err().unwrap().to_string();
        assert!(error.ends_with("start one with `hearth serve --data-dir /nonexistent`"), "{error}");
    }
}
