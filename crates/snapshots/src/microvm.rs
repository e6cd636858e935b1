//! What a microVM has on the disk: its own disk, on which its guest works, and references of its
//! own snapshot and of the image's.
//!
//! The own snapshot's disk and the guest's are one file while the microVM rests, unless others have
//! that snapshot too: no two guests ever have one. A guest that is
//! resumed writes to its disk, which then no longer fits the snapshot: so the snapshot is given a
//! copy before ([`MicrovmFiles::keep_disk`]), with which there is a way back until that goes
//! ([`MicrovmFiles::forget_way_back`]). The layers stay: the next snapshot goes on from them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hearth_api::MicrovmId;
use hearth_vmm::snapshot::{copy_disk, create_overlay, file_error, generation};
use hearth_vmm::{Error, Result};

use crate::draft::{DRAFT, Draft, empty};
use crate::id::SnapshotId;
use crate::removal::{entries, if_there, remove_all};
use crate::store::{Lease, Snapshots, aside, is_same_file, restrict, sync};

/// File name of a microVM's disk: a qcow2 overlay on the image's.
pub(crate) const DISK: &str = "disk.qcow2";
pub(crate) const REFERENCE: &str = "snapshot.json";
pub(crate) const IMAGE_REFERENCE: &str = "image.json";

/// The files of one microVM. Its owner calls one method at a time. Each may wait for the disk.
#[derive(Debug, Clone)]
pub struct MicrovmFiles {
    snapshots: Snapshots,
    directory: PathBuf,
}

impl Snapshots {
    /// Files of a microVM, which may not be there.
    pub fn microvm(&self, id: &MicrovmId) -> MicrovmFiles {
        MicrovmFiles { snapshots: self.clone(), directory: self.microvms_directory().join(id.as_str()) }
    }

    /// Removes the files of all microVMs but these.
    pub fn keep_microvms(&self, is_known: impl Fn(&str) -> bool) {
        for directory in entries(&self.microvms_directory()) {
            if directory.file_name().is_some_and(|name| is_known(&name.to_string_lossy())) {
                continue;
            }
            if directory.is_dir() {
                MicrovmFiles { snapshots: self.clone(), directory }.remove();
            } else {
                remove_all(&directory);
            }
        }
    }
}

impl MicrovmFiles {
    /// Makes them for a clone of an image: with a new disk, whatever a launch before has left.
    pub fn make(&self, image: &Lease) -> Result<()> {
        let failed = |error| file_error("create", &self.directory, error);
        fs::create_dir_all(&self.directory).and_then(|()| restrict(&self.directory)).map_err(failed)?;
        match self.snapshots.reference(image, &self.directory.join(IMAGE_REFERENCE)) {
            // The records do not let an image go that has microVMs, however many there are.
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::TooManyLinks => {}
            referenced => referenced?,
        }
        let disk = self.disk();
        remove_file(&disk).map_err(|error| file_error("remove", &disk, error))?;
        create_overlay(&image.disk(), &disk)
    }

    /// The image's snapshot that its disk is an overlay on, whatever has become of the version.
    pub fn image(&self) -> Result<Option<Lease>> {
        self.snapshots.referenced(&self.directory.join(IMAGE_REFERENCE))
    }

    /// The disk that the guest works on.
    pub fn disk(&self) -> PathBuf {
        self.directory.join(DISK)
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn reference(&self) -> PathBuf {
        self.directory.join(REFERENCE)
    }

    /// Its own snapshot; `None` before the first.
    ///
    /// # Errors
    /// `Damaged` if it is not where it should be.
    pub fn snapshot(&self) -> Result<Option<Lease>> {
        self.snapshots.referenced(&self.reference())
    }

    /// Name of its own snapshot, whether or not that is there.
    pub fn snapshot_id(&self) -> Option<SnapshotId> {
        SnapshotId::read(&self.reference()).ok().flatten()
    }

    /// Number of its own snapshot, rising with each; 0 before the first.
    pub fn generation(&self) -> Result<u32> {
        self.snapshot()?.map_or(Ok(0), |own| generation(own.directory()))
    }

    /// Begins the next snapshot, with the disk, which is this drive of the VM and is not written to
    /// meanwhile.
    pub fn draft(&self, drive_id: &str) -> Result<Draft> {
        let (directory, disk) = (self.directory.join(DRAFT), self.disk());
        Draft::begin(&self.snapshots, &directory, self.reference(), self.snapshot()?, (drive_id, &disk))
    }

    /// Gives the snapshot a disk of its own, if it has none; false, and logged, if there is no room
    /// for a copy.
    pub fn keep_disk(&self) -> bool {
        let copied = self.copied_disk();
        if let Err(error) = &copied {
            let error = error as &dyn std::error::Error;
            tracing::warn!(path = %self.directory.display(), error, "a disk could not be copied before a resume");
        }
        copied.is_ok()
    }

    fn copied_disk(&self) -> Result<()> {
        let own = self.own()?;
        let kept = own.directory().join(DISK);
        if is_parted(&kept, &self.disk())? {
            return Ok(());
        }
        copy_disk(&self.disk(), &kept)?;
        if !own.is_of_one() {
            // To others it is more than a way back.
            let synced = fs::File::open(&kept).and_then(|file| file.sync_all());
            synced.map_err(|error| file_error("sync", &kept, error))?;
        }
        sync(own.directory())
    }

    /// Its own snapshot, which must be there.
    fn own(&self) -> Result<Lease> {
        self.snapshots.required(&self.reference())
    }

    /// Whether the disk can be made again what it was when the snapshot was taken, if it is not
    /// that any more.
    pub fn has_way_back(&self) -> Result<bool> {
        match self.snapshot()? {
            Some(own) => is_parted(&own.directory().join(DISK), &self.disk()),
            None => Ok(false),
        }
    }

    /// Makes the disk again what it was when the snapshot was taken: they fit each other when this
    /// has succeeded. When it has not, it can be done again.
    pub fn put_back(&self) -> Result<()> {
        let (own, disk) = (self.own()?, self.disk());
        let kept = own.directory().join(DISK);
        // Two guests must never write to one file.
        if own.is_of_one() { link_over(&kept, &disk) } else { copy_disk(&kept, &disk) }
    }

    /// Takes the snapshot's copy back: no guest has gone on, and the disk still is what it was. It
    /// has been synced, unlike a copy.
    pub fn keep_none(&self) -> Result<()> {
        let own = self.own()?;
        if own.is_of_one() { link_over(&self.disk(), &own.directory().join(DISK)) } else { Ok(()) }
    }

    /// Refuses to go on without a way back when the guest's disk must not be written to: somebody
    /// else has the snapshot too, and it has no other disk.
    pub fn check_alone(&self) -> Result<()> {
        let Some(own) = self.snapshot()? else { return Ok(()) };
        if own.is_of_one() || !is_same_file(&own.directory().join(DISK), &self.disk()) {
            return Ok(());
        }
        let message = "somebody else has this disk too, and there was no room for a copy".to_owned();
        Err(Error::Refused { command: "resume".to_owned(), message })
    }

    /// Gives the snapshot's disk up, with which no guest goes on any more: what the guest's disk
    /// was is not put back. One that somebody else holds too stays whole.
    pub fn forget_way_back(&self) -> Result<()> {
        let Some(own) = self.snapshot()? else { return Ok(()) };
        let kept = own.directory().join(DISK);
        if !own.is_of_one() {
            return Ok(());
        }
        remove_file(&kept).map_err(|error| file_error("remove", &kept, error))
    }

    /// Merges the snapshot's layers when too much of them is outdated; nothing else of it changes.
    pub fn compact(&self) -> Result<()> {
        let Some(own) = self.snapshot()? else { return Ok(()) };
        if !own.is_of_one() {
            // Its disk may be the one that another guest is going to write to.
            return Ok(());
        }
        let merged = self.directory.join(DRAFT);
        empty(&merged)?;
        let compacted = self.merge(&own, &merged);
        remove_all(&merged);
        compacted
    }

    fn merge(&self, own: &Lease, merged: &Path) -> Result<()> {
        if !hearth_vmm::snapshot::compact(own.directory(), merged)? {
            return Ok(());
        }
        let disk = own.directory().join(DISK);
        fs::hard_link(&disk, merged.join(DISK)).map_err(|error| file_error("link", &disk, error))?;
        sync(merged)?;
        self.snapshots.commit(merged, &self.reference()).map(drop)
    }

    /// Removes them, after their directory has got another name: a copy or a merge that a lost
    /// supervisor left under way finds no directory any more to put its file into.
    pub fn remove(&self) {
        use io::ErrorKind::{DirectoryNotEmpty, NotFound};
        let gone = self.directory.with_extension("gone");
        let removed = loop {
            let references = [REFERENCE, IMAGE_REFERENCE].map(|name| gone.join(name));
            for reference in references.iter().flat_map(|it| [it.clone(), aside(it)]) {
                self.snapshots.release_or_log(&reference);
            }
            match fs::remove_dir_all(&gone) {
                // The kernel had looked up the old name for a file that was just being made.
                Err(error) if error.kind() == DirectoryNotEmpty => continue,
                Err(error) if error.kind() != NotFound => break Err(error),
                Ok(()) | Err(_) => {}
            }
            match fs::rename(&self.directory, &gone) {
                Ok(()) => {}
                Err(error) if error.kind() == NotFound => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if let Err(error) = removed {
            tracing::error!(directory = %self.directory.display(), %error, "a directory could not be removed");
        }
    }
}

/// Whether there is a file that is another than `disk`.
fn is_parted(kept: &Path, disk: &Path) -> Result<bool> {
    let kept_is_there = kept.try_exists().map_err(|error| file_error("stat", kept, error))?;
    Ok(kept_is_there && !is_same_file(kept, disk))
}

/// Gives a file the name of another one, instead of that one.
fn link_over(file: &Path, name: &Path) -> Result<()> {
    let new = name.with_extension("new");
    let linked = remove_file(&new).and_then(|()| fs::hard_link(file, &new));
    linked.and_then(|()| fs::rename(&new, name)).map_err(|error| file_error("link", file, error))?;
    // To the same file, a rename is none.
    remove_file(&new).map_err(|error| file_error("remove", &new, error))
}

fn remove_file(path: &Path) -> io::Result<()> {
    if_there(fs::remove_file(path)).map(drop)
}

#[cfg(test)]
pub(crate) mod tests;
