//! Where the images of FROM come from: a mirror table of prepared stores, or a registry.
//!
//! A prepared store is an ext4 disk with a read-only containers-storage, which the build microVM
//! mounts as it is: no import, whatever the image's size. What comes from a registry is pulled once
//! by each account (`pulls`) and made into such a disk.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use hearth_api::AccountId;
use hearth_confined::cgroup::Cgroups;
use hearth_guest::GuestFactory;
use hearth_image_pull::{Proxy, PullLimits};
use oci_spec::distribution::{ParseError, Reference};
use serde::{Deserialize, Serialize};

use crate::failure::{BuildFailure, FailureCode};
use crate::logins::RegistryLogin;
use crate::slots::FairSlots;
use crate::store_cache::{Lease, StoreCache};

/// Most images of registries that one Dockerfile may name. Each becomes a disk of
/// the build microVM.
const IMAGES_PER_BUILD: usize = 16;

/// Settings of [`BaseImages`].
#[derive(Debug, Clone)]
pub struct BaseImagesConfig {
    /// JSON list of prepared stores that `make setup` writes: `[{"reference": …, "store": …}]`.
    pub mirror_table: PathBuf,
    /// Registries to ask instead of the named ones: `docker.io` → `http://127.0.0.1:5000`.
    pub registry_mirrors: Vec<(String, String)>,
    /// The program `guest/store-image.sh`.
    pub store_tool: PathBuf,
    /// Where pulled images are kept, by account and digest.
    pub cache: PathBuf,
    /// PEM file of further certificates to trust when pulling.
    pub ca_bundle: Option<PathBuf>,
    /// Program to run for a pull, which calls [`hearth_image_pull::run_if_requested`]:
    /// this program itself.
    pub pull_program: PathBuf,
    /// Registries that may be named; `None`: all. `*.example.com` stands for everything below.
    pub allowed_registries: Option<Vec<String>>,
    /// Logins of private registries.
    pub logins: Vec<RegistryLogin>,
    /// The proxy to pull through.
    pub proxy: Option<Proxy>,
    /// Private ranges that guests may reach, in CIDR notation.
    pub allowed_ranges: Vec<String>,
    /// What one image may be.
    pub limits: PullLimits,
    /// Bytes of disks that an account may keep.
    pub account_bytes: u64,
    /// Bytes that stay free on the disk.
    pub free_bytes: u64,
    /// What limits the processes that fetch images and unpack their layers, beside
    /// their own limits.
    pub cgroups: Arc<Cgroups>,
    /// Pulls at the same time.
    pub concurrent_pulls: usize,
    /// Pulls at the same time for one account.
    pub concurrent_pulls_per_account: usize,
}

impl BaseImagesConfig {
    /// Settings that are the same in tests and by default.
    pub fn new(mirror_table: PathBuf, store_tool: PathBuf, cache: PathBuf) -> Self {
        Self {
            mirror_table,
            store_tool,
            cache,
            registry_mirrors: Vec::new(),
            ca_bundle: None,
            pull_program: "/proc/self/exe".into(),
            allowed_registries: None,
            logins: Vec::new(),
            proxy: None,
            allowed_ranges: Vec::new(),
            limits: PullLimits { image_bytes: 8 << 30, seconds: 1800 },
            account_bytes: 64 << 30,
            free_bytes: 2 << 30,
            cgroups: Arc::new(Cgroups::probe()),
            concurrent_pulls: 6,
            concurrent_pulls_per_account: 2,
        }
    }
}

/// On whose behalf images are pulled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    /// Account of the image that is built.
    pub(crate) account: &'a AccountId,
    /// ARN of the build role.
    pub(crate) role: &'a str,
}

/// Store disks of a build; they stay while this lives.
#[derive(Debug)]
pub(crate) struct Stores {
    /// The disks.
    pub(crate) paths: Vec<PathBuf>,
    _leases: Vec<Lease>,
}

/// Finds base images.
#[derive(Debug)]
pub struct BaseImages {
    pub(crate) config: BaseImagesConfig,
    pub(crate) cache: StoreCache,
    pub(crate) pulls: FairSlots,
}

#[derive(Debug, Serialize, Deserialize)]
struct Mirror {
    reference: String,
    store: PathBuf,
}

impl BaseImages {
    /// With these settings.
    pub fn new(config: BaseImagesConfig) -> Self {
        Self {
            cache: StoreCache::new(config.cache.clone(), config.account_bytes),
            pulls: FairSlots::new(config.concurrent_pulls, config.concurrent_pulls_per_account),
            config,
        }
    }

    /// The store disks that a build from `images` needs, without duplicates.
    pub(crate) async fn stores(
        &self,
        asker: Asker<'_>,
        images: &BTreeSet<String>,
        guests: &GuestFactory,
    ) -> Result<Stores, BuildFailure> {
        let table = self.mirror_table()?;
        let (mut paths, mut leases, mut seen) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
        for image in images {
            let reference = as_the_builder_names_it(image)
                .map_err(|error| unavailable(image, &format!("it is no image reference ({error})")))?;
            let name = reference.whole();
            if !seen.insert(name.clone()) {
                continue;
            }
            if let Some(prepared) = table.iter().find(|mirror| mirror.reference == name) {
                paths.insert(prepared.store.clone());
                continue;
            }
            if leases.len() == IMAGES_PER_BUILD {
                let detail = format!("a Dockerfile may name {IMAGES_PER_BUILD} images of registries at most");
                return Err(unavailable(image, &detail));
            }
            let (path, lease) = self.pulled(asker, image, &reference, guests).await?;
            paths.insert(path);
            leases.push(lease);
        }
        Ok(Stores { paths: paths.into_iter().collect(), _leases: leases })
    }

    /// Removes what a former process has left. To be called before the first build.
    pub(crate) fn sweep(&self) {
        if let Err(error) = self.cache.sweep() {
            tracing::error!(%error, "what former pulls have left could not be removed");
        }
    }

    fn mirror_table(&self) -> Result<Vec<Mirror>, BuildFailure> {
        let path = &self.config.mirror_table;
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| BuildFailure::platform("read the mirror table of base images", &error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(BuildFailure::platform("read the mirror table of base images", &error)),
        }
    }
}

/// The name by which the builder looks for an image: written in full, and without the tag if there
/// is a digest (libimage, `normalizeTaggedDigestedNamed`; Docker ignores the tag too). A store
/// disk has to give its image exactly this name: the digest may be that of an index, which the
/// store does not hold.
pub(crate) fn as_the_builder_names_it(image: &str) -> Result<Reference, ParseError> {
    let reference: Reference = image.parse()?;
    Ok(match reference.digest() {
        Some(digest) if reference.tag().is_some() => reference.clone_with_digest(digest.to_owned()),
        _ => reference,
    })
}

/// The failure of a build whose base image cannot be had.
pub(crate) fn unavailable(image: &str, detail: &str) -> BuildFailure {
    BuildFailure::new(
        FailureCode::ContainerBuildFailed,
        format!(
            "The base image {image} of a FROM or COPY --from is not available: {}.",
            detail.trim().trim_end_matches('.')
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_decides_and_the_tag_beside_it_is_no_part_of_the_name() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (image, expected) in [
            (format!("python:3.12-slim@{digest}"), format!("docker.io/library/python@{digest}")),
            (format!("ghcr.io:443/a/uv:0.11@{digest}"), format!("ghcr.io:443/a/uv@{digest}")),
            (format!("ghcr.io/a/uv@{digest}"), format!("ghcr.io/a/uv@{digest}")),
            ("debian:12".to_owned(), "docker.io/library/debian:12".to_owned()),
            ("debian".to_owned(), "docker.io/library/debian:latest".to_owned()),
        ] {
            assert_eq!(as_the_builder_names_it(&image).unwrap().whole(), expected, "{image}");
        }
    }
}
