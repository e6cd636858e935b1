//! What builds have on the disk: scratch directories and layer caches.

use std::path::{Path, PathBuf};

use hearth_api::{AccountId, BuildId, ImageArn};
use hearth_vmm::Result;
use hearth_vmm::snapshot::file_error;

use crate::image::ImageDraft;
use crate::removal::{entries, remove_all};
use crate::store::Snapshots;

/// The scratch directory of one build. Nothing in it outlives the build but a draft that was
/// published.
#[derive(Debug, Clone)]
pub struct BuildFiles {
    directory: PathBuf,
}

impl Snapshots {
    /// Scratch directory of a build, which may not be there.
    pub fn build(&self, id: &BuildId) -> BuildFiles {
        BuildFiles { directory: self.builds_directory().join(id.as_str()) }
    }

    fn builds_directory(&self) -> PathBuf {
        self.root().join("builds")
    }

    /// Removes the scratch directories of all builds.
    pub fn remove_builds(&self) {
        remove_all(&self.builds_directory());
    }

    /// Layer cache of an image's builds: an ext4 disk. One image never sees another's layers, not
    /// even those of an earlier image of its name, which may have been somebody else's: so `image`
    /// is `ImageRecord::id` of the records.
    pub fn build_cache(&self, arn: &ImageArn, image: &str) -> PathBuf {
        self.build_caches_of(&arn.account).join(format!("{}-{image}.ext4", arn.name))
    }

    pub(crate) fn build_caches_of(&self, account: &AccountId) -> PathBuf {
        self.build_caches().join(account.as_str())
    }

    fn build_caches(&self) -> PathBuf {
        self.root().join("build-cache")
    }

    /// Removes an image's layer cache, if there is one.
    pub fn remove_build_cache(&self, arn: &ImageArn, image: &str) {
        remove_all(&self.build_cache(arn, image));
    }

    /// Removes all layer caches but these.
    pub fn keep_build_caches(&self, is_known: impl Fn(&Path) -> bool) {
        let accounts = entries(&self.build_caches());
        for cache in accounts.iter().flat_map(|account| entries(account)) {
            if !is_known(&cache) {
                remove_all(&cache);
            }
        }
    }
}

impl BuildFiles {
    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes it, with an empty draft.
    pub fn make(&self) -> Result<()> {
        let failed = |error| file_error("create", &self.directory, error);
        std::fs::create_dir_all(&self.directory).map_err(failed)?;
        self.image().make()
    }

    /// The image's snapshot to be.
    pub fn image(&self) -> ImageDraft {
        ImageDraft::new(self.directory.join("image"))
    }

    /// Removes it.
    pub fn remove(&self) {
        remove_all(&self.directory);
    }
}
