//! What the server asks of the process that fetches, and what that answers.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One image to fetch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PullSpec {
    /// User and group id of the process that fetches.
    pub uid: u32,
    /// Empty directory, owned by that user, for the OCI layout.
    pub layout: PathBuf,
    /// Base URL of the registry that is asked, such as `https://registry-1.docker.io`.
    pub registry: String,
    /// Repository, such as `library/debian`.
    pub repository: String,
    /// Tag or digest.
    pub reference: String,
    /// Whether [`Self::registry`] is the operator's word: it may be `http`, and is dialled from
    /// the host's namespace.
    pub from_operator: bool,
    /// The proxy that everything else goes through, if the operator has one.
    pub proxy: Option<Proxy>,
    /// Who asks, if the registry wants to know.
    pub login: Option<Login>,
    /// PEM file with further authorities.
    pub ca_bundle: Option<PathBuf>,
    /// Private ranges that guests may reach, in CIDR notation.
    pub allowed_ranges: Vec<String>,
    /// How much it may be.
    pub limits: PullLimits,
}

/// An HTTP proxy of the operator's, asked with CONNECT.
#[derive(Clone, Serialize, Deserialize)]
pub struct Proxy {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Value of `Proxy-Authorization`.
    pub authorization: Option<String>,
    /// Hosts that are reached without it, as in `NO_PROXY`.
    pub except: Vec<String>,
}

/// A user of a registry.
#[derive(Clone, Serialize, Deserialize)]
pub struct Login {
    /// Name.
    pub username: String,
    /// Password or token.
    pub password: String,
    /// Host, besides the registry's own, that may be told the password to get a token.
    pub token_host: Option<String>,
}

/// Limits of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullLimits {
    /// Bytes of all its blobs together, as they are in the registry.
    pub image_bytes: u64,
    /// Seconds for all of it.
    pub seconds: u64,
}

/// Largest manifest or index.
pub const MANIFEST_BYTES: u64 = 4 << 20;
/// Largest configuration of an image.
pub const CONFIG_BYTES: u64 = 8 << 20;
/// Largest answer of a token server.
pub const TOKEN_BYTES: u64 = 64 << 10;
/// Most layers.
pub const LAYERS: usize = 512;
/// Time until the manifest is there, tokens and redirects included, in seconds.
pub const MANIFEST_SECONDS: u64 = 60;
/// What a registry has to deliver on average once the manifest is there, in bytes per second.
pub const LEAST_BYTES_PER_SECOND: u64 = 64 << 10;

/// What a tag or digest stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Digest of the manifest for this machine's architecture, 64 hexadecimal digits of SHA-256.
    pub digest: String,
    /// Bytes of all blobs together.
    pub bytes: u64,
}

/// Why an image could not be fetched. Nothing in it is the registry's text, and all connections
/// that fail look alike, so that nothing can be read or scanned through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// No connection, whatever the reason.
    #[error("the registry, or a server that it refers to, could not be reached")]
    Unreachable,
    /// The connection ended, or what came is no HTTP.
    #[error("the registry's answer was cut short or is not valid HTTP")]
    Broken,
    /// An answer with another status than wanted.
    #[error("the registry answered with status {0}")]
    Status(u16),
    /// There is no such image.
    #[error("the registry has no such image (status 404)")]
    NoSuchImage,
    /// The registry wants a login, or another one.
    #[error("the registry does not let it be read without a login, or has no such image (status {0})")]
    Unauthorized(u16),
    /// A redirect or token server that is not followed.
    #[error(
        "the registry refers to an address that is not followed: it must be https, and not inside a private network"
    )]
    Refused,
    /// Too many redirects.
    #[error("the registry redirects too often")]
    Redirects,
    /// A login is configured, but for another host than the token server's.
    #[error("the registry's token server is on another host; name it in the login as token_host")]
    TokenHost,
    /// The token server's answer has no token.
    #[error("the registry's token server gave no usable token")]
    NoToken,
    /// A manifest that is none.
    #[error("the registry's manifest is not one of an OCI or Docker (schema 2) image")]
    Manifest,
    /// No image for this architecture.
    #[error("the image does not exist for this machine's architecture")]
    Platform,
    /// Something has another size than its descriptor says.
    #[error("the registry sent more or fewer bytes than the manifest says")]
    Size,
    /// Something has another digest than its descriptor says.
    #[error("the registry sent bytes that do not have the digest they should have")]
    Digest,
    /// A body without a descriptor is too large.
    #[error("the registry's manifest, configuration or token is larger than is allowed")]
    TooLarge,
    /// The image is too large.
    #[error("the image is larger than the {0} bytes that are allowed (build.image_mib)")]
    ImageTooLarge(u64),
    /// Time is up.
    #[error("the registry was too slow")]
    TooSlow,
    /// A file could not be written.
    #[error("no space left on device, or the layout could not be written")]
    Disk,
    /// The process could not do its work; the server's log says why.
    #[error("the process that fetches images could not be set up")]
    Setup,
    /// The process ended without a word.
    #[error("the process that fetches images ended unexpectedly")]
    Ended,
    /// It was ended by its filter of system calls.
    #[error("the process that fetches images was ended because it tried what it may not do")]
    Forbidden,
    /// It has reached one of its limits.
    #[error("the process that fetches images was ended because it took more memory or CPU time than it may")]
    Starved,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .field("token_host", &self.token_host)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("except", &self.except)
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// The proxy of `HTTPS_PROXY` and `NO_PROXY` (curl(1), ENVIRONMENT), if there is one.
    ///
    /// # Errors
    /// A sentence, when the value is not of the form `http://[user:password@]host:port`.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, &'static str> {
        let either = |upper: &str, lower: &str| {
            variable(lower).or_else(|| variable(upper)).filter(|value| !value.trim().is_empty())
        };
        let Some(text) = either("HTTPS_PROXY", "https_proxy") else { return Ok(None) };
        let bad = "HTTPS_PROXY is not of the form http://[user:password@]host:port";
        let text = if text.contains("://") { text } else { format!("http://{text}") };
        let url = url::Url::parse(text.trim()).map_err(|_| bad)?;
        let host = url.host_str().filter(|_| url.scheme() == "http").ok_or(bad)?;
        let authorization = (!url.username().is_empty()).then(|| {
            let decoded = |text: &str| percent_decoded(text);
            basic(&decoded(url.username()), &decoded(url.password().unwrap_or_default()))
        });
        let except = either("NO_PROXY", "no_proxy").unwrap_or_default();
        let except = except.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty());
        Ok(Some(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(80),
            authorization,
            except: except.map(str::to_lowercase).collect(),
        }))
    }

    /// Whether this host is reached without the proxy.
    pub(crate) fn excepts(&self, host: &str) -> bool {
        let host = host.to_lowercase();
        self.except.iter().any(|entry| {
            let suffix = entry.trim_start_matches("*.").trim_start_matches('.');
            entry == "*" || host == suffix || host.ends_with(&format!(".{suffix}"))
        })
    }
}

/// The value of an `Authorization` header of the scheme Basic (RFC 7617).
pub(crate) fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {encoded}")
}

fn percent_decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("v={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}
