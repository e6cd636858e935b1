//! The start: what earlier versions and crashes have left.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hearth_vmm::Result;
use hearth_vmm::snapshot::{MANIFEST_FILE, file_error};

use crate::draft::DRAFT;
use crate::earlier;
use crate::microvm::{IMAGE_REFERENCE, REFERENCE};
use crate::removal::{listed, remove_all};
use crate::store::{Snapshots, aside, is_same_file, link_again, restrict};

impl Snapshots {
    /// Those below `root`. Takes over what earlier versions have left there, and removes what a
    /// crash has: drafts, references that did not come to be, snapshots that nobody references.
    ///
    /// # Errors
    /// If the directories cannot be made, or what an earlier version has left cannot be taken over:
    /// without that it would be lost.
    pub fn open(root: &Path) -> Result<Self> {
        let snapshots = Self::below(root);
        remove_all(&snapshots.gone_directory());
        for directory in [snapshots.directory(), snapshots.gone_directory()] {
            let made = fs::create_dir_all(&directory).and_then(|()| restrict(&directory));
            made.map_err(|error| file_error("create", &directory, error))?;
        }
        earlier::take_over(&snapshots)?;
        if let Err(error) = snapshots.collect() {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "what a crash may have left of snapshots stays until the next start");
        }
        Ok(snapshots)
    }

    /// Removes what no reference names. A data directory that was copied without its links gets
    /// them back. One reference that cannot be read, and nothing is removed.
    fn collect(&self) -> io::Result<()> {
        let mut referenced = BTreeSet::new();
        for reference in self.references()? {
            let Some(named) = self.named(&reference)? else { continue };
            let manifest = self.directory_of(&named.id).join(MANIFEST_FILE);
            if manifest.exists() && !is_same_file(&manifest, &reference) {
                let new = aside(&reference);
                link_again(&manifest, &new).map_err(io::Error::other)?;
                fs::rename(&new, &reference)?;
            }
            referenced.insert(named.id.as_str().to_owned());
        }
        for snapshot in listed(&self.directory())? {
            if snapshot.file_name().is_some_and(|name| !referenced.contains(&*name.to_string_lossy())) {
                remove_all(&snapshot);
            } else {
                remove_all(&snapshot.join("disk.new"));
            }
        }
        Ok(())
    }

    /// Every file that may be a reference. What was to become one, drafts, and copies of disks that
    /// were not finished, are removed.
    fn references(&self) -> io::Result<Vec<PathBuf>> {
        let mut holders = listed(&self.microvms_directory())?;
        holders.extend(self.image_versions()?);
        let mut found = Vec::new();
        for holder in holders {
            for file in listed(&holder)? {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                match &*name {
                    REFERENCE | IMAGE_REFERENCE => found.push(file),
                    DRAFT | "snapshot.new" | "image.new" | "disk.new" => remove_all(&file),
                    _ => {}
                }
            }
        }
        Ok(found)
    }
}
