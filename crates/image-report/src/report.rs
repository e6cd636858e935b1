//! The report as it is stored and shown.

use serde::{Deserialize, Serialize};

/// What is known of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// RAM of the guest, in bytes.
    pub memory_size_in_bytes: u64,
    /// Bytes that the root disk's file holds.
    pub disk_allocated_in_bytes: u64,
    /// The app's processes.
    pub processes: Vec<ProcessReport>,
    /// TCP ports that are listened on.
    pub listening: Vec<SocketReport>,
    /// TCP connections to other hosts. They break in every clone.
    pub outbound_connections: Vec<SocketReport>,
    /// What deserves a look before others get clones.
    pub findings: Vec<Finding>,
    /// What was searched.
    pub search: Search,
}

/// A process of the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessReport {
    /// Number, as the app sees it.
    pub pid: u32,
    /// Name of its user, or the number when the image has no name for it.
    pub user: String,
    /// Its program's name, without arguments.
    pub command: String,
    /// Libraries and interpreters that it has loaded whose random numbers are their own: if they
    /// were seeded before the snapshot, every clone goes on with the same ones. Whether they
    /// were cannot be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_random_numbers: Vec<String>,
}

/// A TCP socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketReport {
    /// `ADDRESS:PORT`: its own when it listens, else the other end's.
    pub address: String,
    /// A process that has it open.
    pub pid: Option<u32>,
}

/// A secret, wherever it is; never its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it looks like.
    pub kind: SecretKind,
    /// Where it is.
    pub places: Vec<Place>,
}

/// What a secret looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SecretKind {
    /// A private key in PEM form.
    PrivateKey,
    /// Id of an AWS access key, long-lived or temporary.
    AwsAccessKeyId,
    /// The secret that belongs to one.
    AwsSecretAccessKey,
    /// A token of GitHub.
    GithubToken,
    /// A token of GitLab.
    GitlabToken,
    /// A token of Slack.
    SlackToken,
    /// An API key or OAuth token of Google.
    GoogleToken,
    /// A JSON Web Token.
    JsonWebToken,
}

impl SecretKind {
    /// As a sentence names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PrivateKey => "private key",
            Self::AwsAccessKeyId => "AWS access key id",
            Self::AwsSecretAccessKey => "AWS secret access key",
            Self::GithubToken => "GitHub token",
            Self::GitlabToken => "GitLab token",
            Self::SlackToken => "Slack token",
            Self::GoogleToken => "Google token",
            Self::JsonWebToken => "JSON web token",
        }
    }
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Place {
    /// A variable of the app's environment.
    Environment {
        /// The variable.
        name: String,
    },
    /// A file of the root disk.
    File {
        /// Absolute path.
        path: String,
    },
    /// Memory of a process.
    Memory {
        /// The process.
        pid: u32,
        /// Its program's name.
        command: String,
        /// `[heap]`, `[stack]`, a mapped file, or nothing for other memory.
        region: String,
    },
}

impl Place {
    /// Bytes of what the guest has named.
    pub(crate) fn name_bytes(&self) -> usize {
        match self {
            Self::Environment { name } => name.len(),
            Self::File { path } => path.len(),
            Self::Memory { command, region, .. } => command.len() + region.len(),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Environment { name } => write!(f, "environment variable {name}"),
            Self::File { path } => write!(f, "file {path}"),
            Self::Memory { pid, command, region } if region.is_empty() => {
                write!(f, "memory of process {pid} ({command})")
            }
            Self::Memory { pid, command, region } => {
                write!(f, "memory of process {pid} ({command}), {region}")
            }
        }
    }
}

/// What was searched for secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Search {
    /// Files of the root disk.
    pub files: u64,
    /// Bytes in them.
    pub file_bytes: u64,
    /// Bytes of processes' memory.
    pub memory_bytes: u64,
    /// Milliseconds that the search took.
    pub milliseconds: u64,
    /// What was not searched, as sentences; empty when all was.
    pub left_out: Vec<String>,
}
