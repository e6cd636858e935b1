//! Which files of bases were found whole. They are never written again, so each is read once in the
//! life of a server, and again when it is not the same file any more.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::digest::check_content;
use super::manifest::{Manifest, MemoryLayout};
use super::{MEMORY_FILE, file_error};
use crate::error::Result;

/// A file as it was read, whatever its name: any write changes its time.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Seen {
    inode: (u64, u64),
    bytes: u64,
    /// Seconds and nanoseconds of the last change of the content.
    modified: (i64, i64),
}

/// Files that were read and had the digest that their manifest gives.
#[derive(Debug, Default)]
pub(crate) struct Verified(Mutex<HashSet<Seen>>);

impl Verified {
    /// Checks the memory of a base, and its disks, which `disk` finds by drive.
    pub(crate) fn check_base(
        &self,
        directory: &Path,
        manifest: &Manifest,
        disk: impl Fn(&str) -> Option<PathBuf>,
    ) -> Result<()> {
        let MemoryLayout::Base { blake3, .. } = &manifest.memory else { return Ok(()) };
        self.check(&directory.join(MEMORY_FILE), manifest.memory_bytes, blake3)?;
        for state in &manifest.disks {
            if let Some(path) = disk(&state.drive_id) {
                self.check(&path, state.bytes, &state.blake3)?;
            }
        }
        Ok(())
    }

    /// Takes files for whole whose digests were made just now.
    pub(crate) fn trust<'a>(&self, files: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        for path in files {
            let seen = Seen::now(path)?;
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(seen);
        }
        Ok(())
    }

    fn check(&self, path: &Path, bytes: u64, blake3: &str) -> Result<()> {
        let seen = Seen::now(path)?;
        // Held while one is read: whoever wants the same waits instead of reading it too.
        let mut verified = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.contains(&seen) {
            return Ok(());
        }
        check_content(path, bytes, blake3)?;
        verified.insert(seen);
        Ok(())
    }
}

impl Seen {
    fn now(path: &Path) -> Result<Self> {
        let found = std::fs::metadata(path).map_err(|source| file_error("open", path, source))?;
        Ok(Self {
            inode: (found.dev(), found.ino()),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, PermissionsExt};

    use super::*;
    use crate::error::Error;
    use crate::snapshot::{Platform, SnapshotDisk, finish_base};

    #[test]
    fn a_base_is_read_once_and_again_when_it_was_touched() {
        let directory = tempfile::tempdir().unwrap();
        let (memory, disk) = (directory.path().join(MEMORY_FILE), directory.path().join("disk.raw"));
        for path in [&memory, &disk] {
            std::fs::write(path, vec![7; 1 << 20]).unwrap();
        }
        let disks = [SnapshotDisk { drive_id: "root".into(), path: disk.clone() }];
        finish_base(directory.path(), Platform::for_tests(), b"state", &disks).unwrap();
        let manifest = Manifest::read_existing(directory.path()).unwrap();
        let made_here = Verified::default();
        made_here.trust([&*memory, &*disk]).unwrap();
        assert_eq!(made_here.0.lock().unwrap().len(), 2);
        let verified = Verified::default();
        let check =
            || verified.check_base(directory.path(), &manifest, |id| (id == "root").then(|| disk.clone()));
        check().unwrap();
        check().unwrap();
        assert_eq!(*verified.0.lock().unwrap(), *made_here.0.lock().unwrap());

        for path in [&memory, &disk] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&[6], 4096).unwrap();
            let error = check().unwrap_err();
            assert!(matches!(&error, Error::Damaged { path: found, .. } if found == path), "{error}");
            file.write_all_at(&[7], 4096).unwrap();
            check().unwrap();
        }
    }
}
