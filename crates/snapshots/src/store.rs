//! All snapshots of a data directory: leases, references, and the removal of those that nobody has.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_vmm::Result;
use hearth_vmm::snapshot::{MANIFEST_FILE, MEMORY_FILE, damaged, file_error};

use crate::id::SnapshotId;
use crate::removal::{Remover, entries, if_there, listed};

/// Parts of the table of leases, each with a lock of its own, as the disk may be waited for under
/// it.
const STRIPES: usize = 16;

/// The snapshots below a data directory. Copies are of the same.
#[derive(Debug, Clone)]
pub struct Snapshots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// How often each is leased. Locked while references of it come and it goes.
    leases: [Mutex<HashMap<SnapshotId, usize>>; STRIPES],
    remover: Remover,
}

/// What a reference names.
pub(crate) struct Named {
    pub(crate) id: SnapshotId,
    /// The manifest is not what it was.
    is_damaged: bool,
}

/// A snapshot that stays where it is for as long as this is held.
#[derive(Debug)]
pub struct Lease {
    snapshots: Snapshots,
    id: SnapshotId,
    directory: PathBuf,
}

impl Snapshots {
    pub(crate) fn below(root: &Path) -> Self {
        let (leases, remover) = (std::array::from_fn(|_| Mutex::default()), Remover::start());
        Self(Arc::new(Shared { root: root.to_owned(), leases, remover }))
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.0.root.join("snapshots")
    }

    pub(crate) fn directory_of(&self, id: &SnapshotId) -> PathBuf {
        self.directory().join(id.as_str())
    }

    /// The snapshot that this file references, if it is there.
    pub(crate) fn referenced(&self, reference: &Path) -> Result<Option<Lease>> {
        let named = self.named(reference).map_err(|error| file_error("read", reference, error))?;
        let Some(Named { id, is_damaged }) = named else { return Ok(None) };
        let mut leases = self.leases(&id);
        let manifest = self.directory_of(&id).join(MANIFEST_FILE);
        fs::metadata(&manifest).map_err(|error| file_error("open", &manifest, error))?;
        if is_damaged {
            return Err(damaged(&manifest, "its digest is not the name of the snapshot"));
        }
        Ok(Some(self.lease(id, &mut leases)))
    }

    /// The snapshot that this file references, which must be there; `Damaged` if it is not.
    pub(crate) fn required(&self, reference: &Path) -> Result<Lease> {
        let missing = || file_error("open", reference, io::ErrorKind::NotFound.into());
        self.referenced(reference)?.ok_or_else(missing)
    }

    fn lease(&self, id: SnapshotId, leases: &mut HashMap<SnapshotId, usize>) -> Lease {
        *leases.entry(id.clone()).or_default() += 1;
        Lease { snapshots: self.clone(), directory: self.directory_of(&id), id }
    }

    /// What a file is a reference of, if it is there. Where its content, which is the manifest's,
    /// names no snapshot, its inode does.
    pub(crate) fn named(&self, reference: &Path) -> io::Result<Option<Named>> {
        let Some(id) = SnapshotId::read(reference)? else { return Ok(None) };
        if self.directory_of(&id).exists() {
            return Ok(Some(Named { id, is_damaged: false }));
        }
        let mut all = entries(&self.directory()).into_iter();
        let found = all.find(|directory| is_same_file(&directory.join(MANIFEST_FILE), reference));
        let is_damaged = found.is_some();
        let id = found.as_deref().and_then(SnapshotId::of_directory).unwrap_or(id);
        Ok(Some(Named { id, is_damaged }))
    }

    /// Makes a whole snapshot of what a driver has written and synced in `draft`, and makes
    /// `reference` one of it, instead of what that was. All of it, or nothing, also when the host
    /// loses its power.
    pub(crate) fn commit(&self, draft: &Path, reference: &Path) -> Result<SnapshotId> {
        let manifest = draft.join(MANIFEST_FILE);
        let read = SnapshotId::read(&manifest).map_err(|error| file_error("read", &manifest, error))?;
        let id = read.ok_or_else(|| file_error("open", &manifest, io::ErrorKind::NotFound.into()))?;
        let (directory, new) = (self.directory_of(&id), aside(reference));
        // Until it has its reference; without that, it goes.
        let lease = {
            let mut leases = self.leases(&id);
            if directory.exists() {
                link_again(&directory.join(MANIFEST_FILE), &new)?;
            } else {
                // A crash in between leaves a draft, and not a snapshot that nobody has.
                link_again(&manifest, &new)?;
                fs::rename(draft, &directory).map_err(|error| file_error("rename", draft, error))?;
            }
            self.lease(id, &mut leases)
        };
        let put = sync(&self.directory()).and_then(|()| self.put(&new, reference));
        if put.is_err() {
            let _ = fs::remove_file(&new);
        }
        put?;
        sync(reference.parent().unwrap_or(reference))?;
        Ok(lease.id.clone())
    }

    /// Makes `reference` one of a snapshot, instead of what it was; until a power failure.
    pub(crate) fn reference(&self, lease: &Lease, reference: &Path) -> Result<()> {
        let new = aside(reference);
        link_again(&lease.directory.join(MANIFEST_FILE), &new)?;
        self.put(&new, reference)
    }

    fn put(&self, new: &Path, reference: &Path) -> Result<()> {
        // What cannot be read references nothing that could go.
        let before = self.named(reference).ok().flatten();
        fs::rename(new, reference).map_err(|error| file_error("rename", new, error))?;
        // To the same file, a rename is none.
        let _ = fs::remove_file(new);
        if let Some(before) = before {
            self.remove_unless_used(&before.id);
        }
        Ok(())
    }

    /// Removes a reference.
    pub(crate) fn release(&self, reference: &Path) -> io::Result<()> {
        let Some(named) = self.named(reference)? else { return Ok(()) };
        fs::remove_file(reference)?;
        self.remove_unless_used(&named.id);
        Ok(())
    }

    /// [`Self::release`] of a reference whose directory goes. What cannot be released goes with the
    /// next start.
    pub(crate) fn release_or_log(&self, reference: &Path) {
        if let Err(error) = self.release(reference) {
            tracing::error!(path = %reference.display(), %error, "a snapshot could not be released");
        }
    }

    fn remove_unless_used(&self, id: &SnapshotId) {
        let leases = self.leases(id);
        let directory = self.directory_of(id);
        let used = references(&directory).unwrap_or_else(|error| {
            tracing::error!(path = %directory.display(), %error, "a snapshot stays, as its references cannot be counted");
            true
        });
        if !used && !leases.contains_key(id) {
            self.0.remover.remove(&directory, &self.gone_directory());
        }
    }

    /// Where snapshots are removed.
    pub(crate) fn gone_directory(&self) -> PathBuf {
        self.0.root.join("gone")
    }

    /// Directories of all versions of all images.
    pub(crate) fn image_versions(&self) -> io::Result<Vec<PathBuf>> {
        let mut level = vec![self.images_directory()];
        for _ in 0..3 {
            let below: Vec<Vec<PathBuf>> = level.iter().map(|it| listed(it)).collect::<io::Result<_>>()?;
            level = below.concat();
        }
        Ok(level)
    }

    pub(crate) fn images_directory(&self) -> PathBuf {
        self.0.root.join("images")
    }

    pub(crate) fn microvms_directory(&self) -> PathBuf {
        self.0.root.join("microvms")
    }

    fn leases(&self, id: &SnapshotId) -> MutexGuard<'_, HashMap<SnapshotId, usize>> {
        let first = id.as_str().bytes().next().unwrap_or_default();
        self.0.leases[usize::from(first) % STRIPES].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Its name.
    pub fn id(&self) -> &SnapshotId {
        &self.id
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether it has but one reference.
    pub(crate) fn is_of_one(&self) -> bool {
        let _leases = self.snapshots.leases(&self.id);
        links(&self.directory).is_ok_and(|links| links == 2)
    }

    /// The memory of an image's snapshot.
    pub fn memory(&self) -> PathBuf {
        self.directory.join(MEMORY_FILE)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        {
            let mut leases = self.snapshots.leases(&self.id);
            match leases.get_mut(&self.id) {
                Some(count) if *count > 1 => {
                    *count -= 1;
                    return;
                }
                _ => drop(leases.remove(&self.id)),
            }
        }
        self.snapshots.remove_unless_used(&self.id);
    }
}

/// Whether a snapshot has references. One without a manifest cannot have any.
fn references(directory: &Path) -> io::Result<bool> {
    Ok(links(directory)? > 1)
}

/// How many names its manifest has, of which one is its own.
fn links(directory: &Path) -> io::Result<u64> {
    let manifest = if_there(fs::metadata(directory.join(MANIFEST_FILE)))?;
    Ok(manifest.map_or(0, |manifest| manifest.nlink()))
}

/// Where a reference is made before it takes its place.
pub(crate) fn aside(reference: &Path) -> PathBuf {
    reference.with_extension("new")
}

pub(crate) fn link_again(from: &Path, to: &Path) -> Result<()> {
    let linked = match fs::hard_link(from, to) {
        // Left by one that failed.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(to).and_then(|()| fs::hard_link(from, to))
        }
        linked => linked,
    };
    linked.map_err(|error| file_error("link", from, error))
}

/// Whether two names are of one file; not if one of them is not there.
pub(crate) fn is_same_file(left: &Path, right: &Path) -> bool {
    let inode = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    inode(left).is_some_and(|left| inode(right) == Some(left))
}

/// Brings the names in a directory to the disk.
pub(crate) fn sync(directory: &Path) -> Result<()> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| file_error("sync", directory, error))
}

/// Snapshots hold guests' memory: nobody but the service may look.
pub(crate) fn restrict(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
pub(crate) mod tests;
