//! What an image version has on the disk: a reference of its snapshot, and a report.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hearth_api::{AccountId, ImageArn, ImageVersion};
use hearth_vmm::Result;
use hearth_vmm::snapshot::{MEMORY_FILE, file_error};

use crate::draft::empty;
use crate::id::SnapshotId;
use crate::microvm::REFERENCE;
use crate::removal::{entries, if_there, remove_all};
use crate::store::{Lease, Snapshots};

/// File name of an image's disk: a sparse raw file, read-only once the snapshot is taken.
pub(crate) const DISK: &str = "disk.raw";
const REPORT: &str = "report.json";

/// An image's snapshot that is being made, in the scratch directory of its build.
#[derive(Debug, Clone)]
pub struct ImageDraft {
    directory: PathBuf,
}

impl ImageDraft {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Makes the empty directory.
    pub(crate) fn make(&self) -> Result<()> {
        empty(&self.directory)
    }

    /// Root disk.
    pub fn disk(&self) -> PathBuf {
        self.directory.join(DISK)
    }

    /// Where the driver writes memory and device state.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The memory, once the snapshot is taken.
    pub fn memory(&self) -> PathBuf {
        self.directory.join(MEMORY_FILE)
    }
}

impl Lease {
    /// The disk of an image's snapshot.
    pub fn disk(&self) -> PathBuf {
        self.directory().join(DISK)
    }
}

impl Snapshots {
    fn images_of(&self, account: &AccountId) -> PathBuf {
        self.images_directory().join(account.as_str())
    }

    fn image_directory(&self, arn: &ImageArn) -> PathBuf {
        self.images_of(&arn.account).join(arn.name.as_str())
    }

    fn version_directory(&self, arn: &ImageArn, version: ImageVersion) -> PathBuf {
        self.image_directory(arn).join(version.to_string())
    }

    /// Makes a finished draft the snapshot of an image version. `report` says what it holds.
    pub fn publish(
        &self,
        draft: &ImageDraft,
        arn: &ImageArn,
        version: ImageVersion,
        report: &[u8],
    ) -> Result<SnapshotId> {
        let directory = self.version_directory(arn, version);
        fs::create_dir_all(&directory).map_err(|error| file_error("create", &directory, error))?;
        let path = directory.join(REPORT);
        fs::write(&path, report).map_err(|error| file_error("write", &path, error))?;
        self.commit(&draft.directory, &directory.join(REFERENCE))
    }

    /// The snapshot of an image version.
    ///
    /// # Errors
    /// `Damaged` if it is not there.
    pub fn image(&self, arn: &ImageArn, version: ImageVersion) -> Result<Lease> {
        self.required(&self.version_directory(arn, version).join(REFERENCE))
    }

    /// The report of a version; `None` if there is none.
    pub fn report(&self, arn: &ImageArn, version: ImageVersion) -> io::Result<Option<String>> {
        if_there(fs::read_to_string(self.version_directory(arn, version).join(REPORT)))
    }

    /// Removes what a version has. Its snapshot stays for as long as microVMs have it.
    pub fn remove_version(&self, arn: &ImageArn, version: ImageVersion) {
        self.remove_holder(&self.version_directory(arn, version));
    }

    /// Removes what all versions of an image have.
    pub fn remove_image(&self, arn: &ImageArn) {
        let directory = self.image_directory(arn);
        for version in entries(&directory) {
            self.remove_holder(&version);
        }
        remove_all(&directory);
    }

    /// Removes what other versions than these have.
    pub fn keep_versions<'a>(&self, known: impl Iterator<Item = (&'a ImageArn, ImageVersion)>) {
        let known: HashSet<_> = known.map(|(arn, version)| self.version_directory(arn, version)).collect();
        let accounts = entries(&self.images_directory());
        let images: Vec<_> = accounts.iter().flat_map(|account| entries(account)).collect();
        for version in images.iter().flat_map(|image| entries(image)).filter(|it| !known.contains(it)) {
            tracing::warn!(path = %version.display(), "what is left of an image version is removed");
            self.remove_holder(&version);
        }
        for image in images {
            // Only those that are empty now.
            let _ = fs::remove_dir(image);
        }
    }

    fn remove_holder(&self, directory: &Path) {
        self.release_or_log(&directory.join(REFERENCE));
        remove_all(directory);
    }

    /// Bytes of the disk that is taken by what an account's image versions and their builds keep.
    pub fn bytes_of_images(&self, account: &AccountId) -> u64 {
        let images = self.images_of(account);
        let versions = entries(&images).into_iter().flat_map(|image| entries(&image));
        let snapshots = versions.filter_map(|version| SnapshotId::read(&version.join(REFERENCE)).ok()?);
        let mut directories: Vec<PathBuf> = snapshots.map(|id| self.directory().join(id.as_str())).collect();
        directories.extend([self.build_caches_of(account), images]);
        allocated_below(directories)
    }
}

/// Bytes that the files below some directories occupy, whatever their length. What goes meanwhile
/// takes nothing, and a file that has several names counts once; symbolic links are not followed.
fn allocated_below(mut directories: Vec<PathBuf>) -> u64 {
    let (mut bytes, mut seen) = (0, HashSet::new());
    while let Some(directory) = directories.pop() {
        for path in entries(&directory) {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                directories.push(path);
            }
            if metadata.is_dir() || metadata.nlink() == 1 || seen.insert((metadata.dev(), metadata.ino())) {
                bytes += metadata.blocks() * 512;
            }
        }
    }
    bytes
}

/// Bytes that a sparse file occupies (stat(2): blocks of 512 bytes).
pub fn allocated_bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}

#[cfg(test)]
mod tests;
