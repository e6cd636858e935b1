//! Data directories of versions that kept a snapshot beside what it belongs to: `snapshot/` and
//! `disk.raw` in the directory of an image version, everything in that of a microVM.
//!
//! Taking one over writes nothing but manifests and names. What is in an image version's directory
//! stays there as links until the version goes: VMMs that an earlier server has started know it by
//! that path.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use hearth_vmm::Result;
use hearth_vmm::snapshot::{MANIFEST_FILE, MEMORY_FILE, file_error};

use crate::draft::{DRAFT, empty};
use crate::image;
use crate::microvm::{DISK, REFERENCE};
use crate::removal::{entries, listed, remove_all};
use crate::store::{Snapshots, sync};

/// Copy of a microVM's disk from before a resume, until its guest had answered: what its snapshot
/// fits.
const KEPT: &str = "disk.kept";

pub(crate) fn take_over(snapshots: &Snapshots) -> Result<()> {
    let failed = |error| file_error("read", snapshots.root(), error);
    for version in snapshots.image_versions().map_err(failed)? {
        let (old, disk) = (version.join("snapshot"), version.join(image::DISK));
        take_over_one(snapshots, &version, &old, (&disk, image::DISK))?;
    }
    for microvm in listed(&snapshots.microvms_directory()).map_err(failed)? {
        let kept = microvm.join(KEPT);
        let disk = if kept.exists() { kept } else { microvm.join(DISK) };
        take_over_one(snapshots, &microvm, &microvm, (&disk, DISK))?;
        for file in entries(&microvm) {
            if is_part(&file) || file.ends_with(MANIFEST_FILE) || file.ends_with(KEPT) {
                remove_all(&file);
            }
        }
    }
    Ok(())
}

/// Makes a snapshot of the files in `old`, and of a disk under the name that it gets.
fn take_over_one(
    snapshots: &Snapshots,
    holder: &Path,
    old: &Path,
    (disk, name): (&Path, &str),
) -> Result<()> {
    let (manifest, reference) = (old.join(MANIFEST_FILE), holder.join(REFERENCE));
    if reference.exists() || !manifest.exists() {
        return Ok(());
    }
    let draft = holder.join(DRAFT);
    empty(&draft)?;
    let link = |from: &Path, to: &Path| match fs::hard_link(from, to) {
        // That it is missing is found and said when it is needed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        linked => linked.map_err(|error| file_error("link", from, error)),
    };
    let content = fs::read(&manifest).map_err(|error| file_error("read", &manifest, error))?;
    let text = String::from_utf8_lossy(&content);
    for part in listed(old).map_err(|error| file_error("read", old, error))? {
        let name = part.file_name().unwrap_or_default().to_string_lossy();
        if is_part(&part) && (text.contains(&format!("\"{name}\"")) || name == MEMORY_FILE) {
            link(&part, &draft.join(&*name))?;
        }
    }
    link(disk, &draft.join(name))?;
    // Not a link: those of a manifest are counted.
    let copy = draft.join(MANIFEST_FILE);
    let copied = fs::File::create_new(&copy).and_then(|mut file| {
        file.write_all(&content)?;
        file.sync_all()
    });
    copied.map_err(|error| file_error("write", &copy, error))?;
    sync(&draft)?;
    let id = snapshots.commit(&draft, &reference)?;
    tracing::info!(%id, path = %holder.display(), "a snapshot of an earlier version is taken over");
    Ok(())
}

/// Whether a file is memory or device state.
fn is_part(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    ["memory", "device-state"]
        .iter()
        .any(|part| name.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

#[cfg(test)]
mod tests;
