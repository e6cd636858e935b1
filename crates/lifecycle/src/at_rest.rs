//! The files of a microVM between two lives: whether its snapshot and its disk fit each other, and
//! how a resume that did not take place is undone.
//!
//! A guest that runs writes to its disk, which then no longer fits the snapshot. Before it runs,
//! the file `diverged` says so, and names the snapshot that it began with: a newer one, written by
//! a suspend, fits although the file is still there. A resume works on the disk while a copy of it,
//! `disk.kept`, stays as it was; until the record says RUNNING the copy can be put back. What is
//! needed for that after a power failure is synced before the guest runs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hearth_guest_protocol::chain;
use hearth_snapshots::MicrovmFiles;
use hearth_vmm::snapshot::MANIFEST_FILE;
use tokio::task::{JoinHandle, spawn_blocking};

/// What the file `diverged` says of a guest that began with the image's snapshot.
const NO_SNAPSHOT: &str = "none";

/// What exists when a microVM has a snapshot of its own.
pub(crate) fn own_manifest(own: &MicrovmFiles) -> PathBuf {
    own.directory.join(MANIFEST_FILE)
}

/// Notes that the guest may write to its disk from now on.
pub(crate) fn mark_diverged(own: &MicrovmFiles) -> io::Result<()> {
    fs::write(&own.diverged, own_snapshot(own)?)
}

/// Whether the guest may have run since its snapshot was taken, or the image's if it has none.
pub(crate) fn has_diverged(own: &MicrovmFiles) -> bool {
    let began_with = match fs::read_to_string(&own.diverged) {
        Ok(began_with) => began_with,
        Err(error) => return error.kind() != io::ErrorKind::NotFound,
    };
    // Nothing is in it after a power failure, and if an older version wrote it.
    began_with.is_empty() || own_snapshot(own).map_or(true, |snapshot| snapshot == began_with)
}

/// What tells the present snapshot from earlier ones.
fn own_snapshot(own: &MicrovmFiles) -> io::Result<String> {
    match fs::read(own_manifest(own)) {
        Ok(manifest) => Ok(blake3::hash(&manifest).to_hex().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(NO_SNAPSHOT.to_owned()),
        Err(error) => Err(error),
    }
}

/// Begins to copy the disk of a suspended microVM; answers whether there is a copy. Without one,
/// for want of space, it is resumed anyway.
pub(crate) fn keep_disk(own: &MicrovmFiles) -> JoinHandle<bool> {
    let (overlay, kept, directory) = (own.overlay.clone(), own.kept.clone(), own.directory.clone());
    spawn_blocking(move || {
        let copied = hearth_vmm::snapshot::copy_disk(&overlay, &kept);
        if let Err(error) = &copied {
            tracing::warn!(error = %chain(error), "a disk could not be copied before a resume");
            return false;
        }
        sync(&directory);
        true
    })
}

/// Removes the copy, as its microVM runs or is ended.
pub(crate) fn forget_kept(own: &MicrovmFiles) -> io::Result<()> {
    match fs::remove_file(&own.kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(crate) fn forget_kept_or_warn(own: &MicrovmFiles) {
    if let Err(error) = forget_kept(own) {
        tracing::warn!(path = %own.kept.display(), %error, "the copy of a disk could not be removed");
    }
}

/// Removes the copy of a microVM whose record says RUNNING: if it is lost from now on, what it was
/// before is not put back, as clients may have seen what it became.
pub(crate) fn has_resumed(own: MicrovmFiles) -> Option<JoinHandle<()>> {
    own.kept.exists().then(|| {
        spawn_blocking(move || {
            forget_kept_or_warn(&own);
            sync(&own.directory);
        })
    })
}

/// Makes the disk what it was before a resume that did not take place; memory and disk fit each
/// other when this has succeeded. When it has not, which is logged, the copy is still there, and
/// it can be done again.
pub(crate) fn put_back(own: &MicrovmFiles) -> bool {
    let put = match fs::remove_file(&own.diverged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::rename(&own.kept, &own.overlay),
    };
    if let Err(error) = &put {
        tracing::error!(directory = %own.directory.display(), %error, "a disk could not be put back");
    }
    put.is_ok()
}

/// Brings the names in a directory to the disk. Where that fails they are there
/// until a power failure.
fn sync(directory: &Path) {
    if let Err(error) = File::open(directory).and_then(|directory| directory.sync_all()) {
        tracing::warn!(path = %directory.display(), %error, "a directory could not be synced");
    }
}

#[cfg(test)]
mod tests {
    use hearth_api::MicrovmId;
    use hearth_snapshots::Files;

    use super::*;

    fn microvm() -> (tempfile::TempDir, MicrovmFiles) {
        let directory = tempfile::tempdir().unwrap();
        let own = Files::new(directory.path()).microvm(&MicrovmId::new());
        fs::create_dir_all(&own.directory).unwrap();
        (directory, own)
    }

    #[test]
    fn a_snapshot_that_is_newer_than_the_life_fits() {
        let (_directory, own) = microvm();
        assert!(!has_diverged(&own));
        mark_diverged(&own).unwrap();
        assert!(has_diverged(&own));
        for manifest in ["first", "second"] {
            fs::write(own_manifest(&own), manifest).unwrap();
            assert!(!has_diverged(&own), "it is of the end of that life");
            mark_diverged(&own).unwrap();
            assert!(has_diverged(&own));
        }
        fs::write(&own.diverged, "").unwrap();
        assert!(has_diverged(&own), "nobody knows");
    }

    #[test]
    fn a_disk_is_put_back_however_often_that_is_interrupted() {
        let (_directory, own) = microvm();
        for interrupted_after_mark in [false, true] {
            fs::write(&own.overlay, "changed").unwrap();
            fs::write(&own.kept, "before").unwrap();
            mark_diverged(&own).unwrap();
            if interrupted_after_mark {
                fs::remove_file(&own.diverged).unwrap();
            }
            assert!(put_back(&own));
            assert_eq!(fs::read_to_string(&own.overlay).unwrap(), "before");
            assert!(!own.kept.exists() && !has_diverged(&own));
        }
    }
}
