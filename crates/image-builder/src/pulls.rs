//! Pulls an image for an account: asks the registry in a process of its own, and makes a store disk
//! of what comes (`store_tool`).

use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_guest::{Egress, GuestFactory};
use hearth_image_pull::{Failure, Fetch, Login, PullSpec, Resolved};
use oci_spec::distribution::Reference;

use crate::base_images::{Asker, BaseImages, unavailable};
use crate::failure::{BuildFailure, FailureCode};
use crate::logins::RegistryLogin;
use crate::store_cache::Lease;
use crate::store_tool::{LIMITS, StoreTool};

/// Largest image, unpacked, unless the environment says otherwise to `store-image.sh`.
const UNPACKED_BYTES: u64 = 16 << 30;
/// Smallest size at which unpacking is worth a try.
const LEAST_UNPACKED_BYTES: u64 = 64 << 20;

impl BaseImages {
    /// The store disk of an image from a registry.
    pub(crate) async fn pulled(
        &self,
        asker: Asker<'_>,
        image: &str,
        reference: &Reference,
        guests: &GuestFactory,
    ) -> Result<(PathBuf, Lease), BuildFailure> {
        self.check_allowed(image, reference.registry())?;
        let login = self.login(asker, reference.registry())?;
        let _place = self.pulls.acquire(asker.account).await;
        let keep = |error: &dyn std::error::Error| BuildFailure::platform("keep a pulled base image", error);
        let directory = self.cache.directory(asker.account).map_err(|error| keep(&error))?;
        let uid = guests.uids.take();
        let work = tempfile::Builder::new().prefix(".pull-").tempdir_in(&directory);
        let work = work.map_err(|error| keep(&error))?;
        let layout = work.path().join("layout");
        let prepared = std::fs::create_dir(&layout)
            .and_then(|()| std::os::unix::fs::chown(&layout, Some(uid.get()), Some(uid.get())))
            // What makes the disk runs as another user.
            .and_then(|()| std::fs::set_permissions(&layout, std::fs::Permissions::from_mode(0o755)));
        prepared.map_err(|error| keep(&error))?;
        let network = guests.networks.acquire(Egress::Internet).await;
        let network = network.map_err(|error| BuildFailure::platform("make a network for a pull", &error))?;
        let spec = self.spec(reference, login, uid.get(), &layout);
        let pull = async {
            let Some(namespace) = network.namespace() else { return Err(Failure::Setup) };
            let program = &self.config.pull_program;
            Fetch::start(program, &spec, namespace.as_fd(), &self.config.cgroups).await
        };
        let started = pull.await.map_err(|failure| failed(image, failure));
        let result = match started {
            Err(failure) => Err(failure),
            Ok((fetch, resolved)) => {
                // The name is part of the store: the same image under two names makes two stores.
                let name = blake3::hash(reference.whole().as_bytes()).to_hex();
                let store = directory.join(format!("sha256-{}-{}.ext4", resolved.digest, &name[..16]));
                let lock = self.cache.lock(&store);
                let _one_at_a_time = lock.lock().await;
                match self.cache.lease(&store) {
                    Some(lease) => Ok((store, lease)),
                    None => self
                        .make(asker, image, reference, (fetch, &resolved), &layout, &store)
                        .await
                        .map(|lease| (store, lease)),
                }
            }
        };
        network.release().await;
        result
    }

    /// Fetches the blobs and makes the disk.
    async fn make(
        &self,
        asker: Asker<'_>,
        image: &str,
        reference: &Reference,
        (fetch, resolved): (Fetch, &Resolved),
        layout: &Path,
        store: &Path,
    ) -> Result<Lease, BuildFailure> {
        let unpacked_bytes = self.room(image, layout, resolved.bytes)?;
        fetch.finish(resolved).await.map_err(|failure| failed(image, failure))?;
        let (name, made) = (reference.whole(), layout.with_file_name("store.ext4"));
        let time = Duration::from_secs(self.config.limits.seconds);
        let tool =
            StoreTool { program: &self.config.store_tool, cgroups: &self.config.cgroups, limits: LIMITS };
        tool.make_store(layout, &name, &made, unpacked_bytes, time).await?;
        let keep = |error: &dyn std::error::Error| BuildFailure::platform("keep a pulled base image", error);
        std::fs::rename(&made, store).map_err(|error| keep(&error))?;
        let lease = self.cache.lease(store).ok_or_else(|| {
            BuildFailure::new(FailureCode::InternalPlatformError, "A pulled base image has disappeared.")
        })?;
        if !self.cache.shrink(asker.account).map_err(|error| keep(&error))? {
            std::fs::remove_file(store).map_err(|error| keep(&error))?;
            let detail = format!(
                "with it, the account would keep more than {} MiB of base images for its builds \
                 (quotas.base_images_mib)",
                self.config.account_bytes >> 20
            );
            return Err(unavailable(image, &detail));
        }
        Ok(lease)
    }

    /// How many bytes an image may have unpacked, so that the disk does not get full: meanwhile
    /// there are its blobs, its layers unpacked, and the disk that is made of them.
    fn room(&self, image: &str, directory: &Path, packed_bytes: u64) -> Result<u64, BuildFailure> {
        let free = fs4::available_space(directory).unwrap_or(0);
        let usable = free.saturating_sub(self.config.free_bytes).saturating_sub(packed_bytes);
        let unpacked = (usable / 9 * 4).min(UNPACKED_BYTES).min(self.config.account_bytes);
        if unpacked < LEAST_UNPACKED_BYTES || unpacked < packed_bytes {
            return Err(BuildFailure::new(
                FailureCode::DiskStorageFull,
                format!("There is no room for the base image {image} on the disk of the service."),
            ));
        }
        Ok(unpacked)
    }

    fn check_allowed(&self, image: &str, registry: &str) -> Result<(), BuildFailure> {
        let Some(allowed) = &self.config.allowed_registries else { return Ok(()) };
        let fits = |entry: &String| match entry.strip_prefix("*.") {
            Some(domain) => registry.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
            None => entry == registry,
        };
        if allowed.iter().any(fits) {
            return Ok(());
        }
        let detail =
            format!("images of {registry} are not allowed by this service (build.allowed_registries)");
        Err(unavailable(image, &detail))
    }

    fn login(&self, asker: Asker<'_>, registry: &str) -> Result<Option<Login>, BuildFailure> {
        let mut logins = self.config.logins.iter();
        let login = logins.find(|login| login.is_for(asker.account, asker.role, registry));
        login
            .map(RegistryLogin::read)
            .transpose()
            .map_err(|error| BuildFailure::platform("read the password of a registry", &error))
    }

    fn spec(&self, reference: &Reference, login: Option<Login>, uid: u32, layout: &Path) -> PullSpec {
        let config = &self.config;
        let mirror = config.registry_mirrors.iter().find(|(name, _)| name == reference.registry());
        let registry = match (mirror, reference.registry()) {
            (Some((_, address)), _) if address.contains("://") => address.clone(),
            (Some((_, address)), _) => format!("https://{address}"),
            // The name of the registry that "docker.io" stands for.
            (None, "docker.io") => "https://registry-1.docker.io".to_owned(),
            (None, registry) => format!("https://{registry}"),
        };
        PullSpec {
            uid,
            layout: layout.to_owned(),
            registry,
            repository: reference.repository().to_owned(),
            reference: reference.digest().or(reference.tag()).unwrap_or("latest").to_owned(),
            from_operator: mirror.is_some(),
            proxy: config.proxy.clone(),
            login,
            ca_bundle: config.ca_bundle.clone(),
            allowed_ranges: config.allowed_ranges.clone(),
            limits: config.limits,
        }
    }
}

fn failed(image: &str, failure: Failure) -> BuildFailure {
    match failure {
        Failure::Setup => BuildFailure::platform("set up the process that fetches images", &failure),
        Failure::Disk => BuildFailure::platform("keep a pulled base image", &failure),
        failure => unavailable(image, &failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::base_images::BaseImagesConfig;

    fn images(change: impl FnOnce(&mut BaseImagesConfig)) -> BaseImages {
        let nowhere = PathBuf::from("/nonexistent");
        let mut config = BaseImagesConfig::new(nowhere.clone(), nowhere.clone(), nowhere);
        change(&mut config);
        BaseImages::new(config)
    }

    fn spec(images: &BaseImages, image: &str) -> PullSpec {
        images.spec(&image.parse().unwrap(), None, 1, Path::new("/x"))
    }

    #[test]
    fn only_what_the_operator_names_is_the_operators() {
        let images = images(|config| {
            config.registry_mirrors = vec![("docker.io".into(), "http://127.0.0.1:5000".into())];
        });
        let mirrored = spec(&images, "debian:12");
        assert_eq!(
            (mirrored.registry.as_str(), mirrored.from_operator, mirrored.repository.as_str()),
            ("http://127.0.0.1:5000", true, "library/debian")
        );
        for (image, registry) in [
            ("127.0.0.1:5000/library/debian:12", "https://127.0.0.1:5000"),
            ("localhost:5000/x", "https://localhost:5000"),
            ("docker.io.evil.test/x", "https://docker.io.evil.test"),
        ] {
            let named = spec(&images, image);
            assert_eq!((named.registry.as_str(), named.from_operator), (registry, false));
        }
    }

    #[test]
    fn registries_that_are_not_allowed_are_refused_by_name() {
        let images = images(|config| {
            config.allowed_registries = Some(vec!["docker.io".into(), "*.corp.test".into()]);
        });
        for (registry, allowed) in [
            ("docker.io", true),
            ("a.corp.test", true),
            ("corp.test", false),
            ("evilcorp.test", false),
            ("ghcr.io", false),
            ("127.0.0.1:5000", false),
        ] {
            let verdict = images.check_allowed("x", registry);
            assert_eq!(verdict.is_ok(), allowed, "{registry}");
            if let Err(failure) = verdict {
                assert!(failure.message.contains("build.allowed_registries"), "{failure}");
            }
        }
    }

    #[test]
    fn an_image_for_which_there_is_no_room_is_refused_before_it_is_fetched() {
        let directory = tempfile::tempdir().unwrap();
        let room = |free_bytes, packed| {
            images(|config| config.free_bytes = free_bytes).room("x", directory.path(), packed)
        };
        assert!(room(0, 1 << 20).unwrap() <= UNPACKED_BYTES);
        assert_eq!(room(u64::MAX, 1).unwrap_err().code, FailureCode::DiskStorageFull);
        assert_eq!(room(0, 1 << 60).unwrap_err().code, FailureCode::DiskStorageFull);
    }
}
