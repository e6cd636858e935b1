//! Where images, microVMs and builds keep their files below the data directory.

use std::path::{Path, PathBuf};

use hearth_api::{AccountId, BuildId, ImageArn, ImageVersion, MicrovmId};

/// Paths below the data directory; nothing here touches the disk.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
}

/// The files of one image version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFiles {
    /// The version's directory.
    pub directory: PathBuf,
    /// Root disk: a sparse raw file, read-only once the snapshot is taken.
    pub disk: PathBuf,
    /// Directory of the base snapshot.
    pub snapshot: PathBuf,
    /// What the snapshot holds (JSON).
    pub report: PathBuf,
}

/// The files of one microVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MicrovmFiles {
    /// The microVM's directory; its own snapshot lies in it.
    pub directory: PathBuf,
    /// Its overlay on the image's disk.
    pub overlay: PathBuf,
    /// Copy of the overlay from before a resume, until the guest has answered: what the
    /// memory snapshot fits.
    pub kept: PathBuf,
}

impl Files {
    /// Paths below `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What holds everything that is kept of an account's images: versions and layer caches.
    pub fn of_images(&self, account: &AccountId) -> [PathBuf; 2] {
        [self.root.join("images"), self.build_caches()].map(|parent| parent.join(account.as_str()))
    }

    /// Files of an image version.
    pub fn image(&self, arn: &ImageArn, version: ImageVersion) -> ImageFiles {
        let directory = self.image_directory(arn).join(version.to_string());
        ImageFiles {
            disk: directory.join("disk.raw"),
            snapshot: directory.join("snapshot"),
            report: directory.join("report.json"),
            directory,
        }
    }

    /// Directory of all versions of an image.
    pub fn image_directory(&self, arn: &ImageArn) -> PathBuf {
        self.root.join("images").join(arn.account.as_str()).join(arn.name.as_str())
    }

    /// Layer cache of an image's builds: an ext4 disk. One image never sees another's layers, not
    /// even those of an earlier image of its name, which may have been somebody else's: so `image`
    /// is `ImageRecord::id` of the records.
    pub fn build_cache(&self, arn: &ImageArn, image: &str) -> PathBuf {
        self.build_caches().join(arn.account.as_str()).join(format!("{}-{image}.ext4", arn.name))
    }

    /// Parent of the accounts' directories with layer caches.
    pub fn build_caches(&self) -> PathBuf {
        self.root.join("build-cache")
    }

    /// Scratch directory of a build.
    pub fn build(&self, id: &BuildId) -> PathBuf {
        self.builds().join(id.as_str())
    }

    /// Parent of all scratch directories.
    pub fn builds(&self) -> PathBuf {
        self.root.join("builds")
    }

    /// Files of a microVM.
    pub fn microvm(&self, id: &MicrovmId) -> MicrovmFiles {
        let directory = self.microvms().join(id.as_str());
        MicrovmFiles { overlay: directory.join("disk.qcow2"), kept: directory.join("disk.kept"), directory }
    }

    /// Parent of all microVM directories.
    pub fn microvms(&self) -> PathBuf {
        self.root.join("microvms")
    }
}
