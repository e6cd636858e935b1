//! What the operator may set for builds, in the TOML file behind `--config`.

use std::path::PathBuf;

use serde::Deserialize;

use crate::cache_dir::cache_dir;

/// `[build]`: how images are built.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BuildConfig {
    /// Table of prepared base images.
    pub(crate) mirror_table: PathBuf,
    /// Registries asked instead of the named ones: `"docker.io" = "http://127.0.0.1:5000"`.
    pub(crate) registry_mirrors: std::collections::BTreeMap<String, String>,
    /// Program that makes a pulled image into a store disk.
    pub(crate) store_tool: PathBuf,
    /// PEM file that RUN lines and pulls trust besides the usual certificates.
    pub(crate) ca_bundle: Option<PathBuf>,
    /// Registries that images may come from.
    pub(crate) allowed_registries: Option<Vec<String>>,
    /// Logins of private registries.
    pub(crate) registry_logins: Vec<RegistryLoginConfig>,
    /// Largest image of a registry, in MiB as it is there.
    pub(crate) image_mib: u64,
    /// Seconds until a pull is stopped.
    pub(crate) pull_timeout_seconds: u64,
    /// Pulls at the same time.
    pub(crate) concurrent_pulls: usize,
    /// Space that stays free on the disk.
    pub(crate) minimum_free_disk_mib: u64,
    /// Builds at the same time.
    pub(crate) concurrent_builds: usize,
    /// vCPUs of a build microVM, at most the host's CPUs.
    pub(crate) vcpus: u8,
    /// Memory of a build microVM in MiB.
    pub(crate) memory_mib: u32,
    /// Seconds until a Dockerfile's build is stopped.
    pub(crate) timeout_seconds: u64,
    /// Seconds to wait for a listening port when there is no ready hook.
    pub(crate) listen_timeout_seconds: u64,
    /// Fail builds whose snapshot holds secrets.
    pub(crate) refuse_findings: bool,
    /// Largest zip in bytes.
    pub(crate) zip_bytes: u64,
}

/// `[[build.registry_logins]]`: a login that builds of one role use.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegistryLoginConfig {
    /// ARN of the build role, which names the account.
    pub(crate) role: String,
    /// Registry as FROM names it.
    pub(crate) registry: String,
    /// User.
    pub(crate) username: String,
    /// File with the password.
    pub(crate) password_file: PathBuf,
    /// Host of the token server.
    #[serde(default)]
    pub(crate) token_host: Option<String>,
}

impl Default for BuildConfig {
    fn default() -> Self {
        Self {
            mirror_table: cache_dir().join("bases/mirror.json"),
            registry_mirrors: std::collections::BTreeMap::new(),
            store_tool: "/usr/local/lib/hearth/guest-tools/store-image.sh".into(),
            ca_bundle: None,
            allowed_registries: None,
            registry_logins: Vec::new(),
            image_mib: 8192,
            pull_timeout_seconds: 1800,
            concurrent_pulls: 6,
            minimum_free_disk_mib: 2048,
            // A build is busy all the time; too many at once run into their time limits.
            concurrent_builds: std::thread::available_parallelism()
                .map_or(1, |cpus| (cpus.get() / 2).clamp(1, 5)),
            vcpus: 4,
            memory_mib: 4096,
            timeout_seconds: 3600,
            listen_timeout_seconds: 60,
            refuse_findings: false,
            zip_bytes: 1 << 30,
        }
    }
}
