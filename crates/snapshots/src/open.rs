//! The start: what earlier versions and crashes have left.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hearth_vmm::Result;
use hearth_vmm::snapshot::{MANIFEST_FILE, file_error};

use crate::earlier;
use crate::store::{Named, Snapshots, aside, entries, is_same_file, link_again, remove_all, restrict};

impl Snapshots {
    /// Those below `root`. Takes over what earlier versions have left there, and removes what a
    /// crash has: drafts, references that did not come to be, snapshots that nobody references.
    pub fn open(root: &Path) -> Result<Self> {
        let snapshots = Self::below(root);
        let directory = snapshots.directory();
        fs::create_dir_all(&directory)
            .and_then(|()| restrict(&directory))
            .map_err(|error| file_error("create", &directory, error))?;
        earlier::take_over(&snapshots)?;
        snapshots.collect()?;
        Ok(snapshots)
    }

    /// Removes what no reference names. A data directory that was copied without its links gets
    /// them back.
    fn collect(&self) -> Result<()> {
        let mut referenced = BTreeSet::new();
        for reference in self.references() {
            let named = self.named(&reference).map_err(|error| file_error("read", &reference, error))?;
            let Some(Named { id, .. }) = named else { continue };
            let manifest = self.directory_of(&id).join(MANIFEST_FILE);
            if manifest.exists() && !is_same_file(&manifest, &reference) {
                let new = aside(&reference);
                link_again(&manifest, &new)?;
                fs::rename(&new, &reference).map_err(|error| file_error("rename", &new, error))?;
            }
            referenced.insert(id.as_str().to_owned());
        }
        for entry in entries(&self.directory()) {
            if entry.file_name().is_some_and(|name| !referenced.contains(&*name.to_string_lossy())) {
                remove_all(&entry);
            }
        }
        Ok(())
    }

    /// Every file that may be a reference. What was to become one, and drafts, are removed.
    fn references(&self) -> Vec<PathBuf> {
        let microvms = entries(&self.microvms_directory());
        let versions = self.image_versions();
        let mut found = Vec::new();
        for file in microvms.iter().chain(&versions).flat_map(|holder| entries(holder)) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match &*name {
                "snapshot.json" | "image.json" => found.push(file),
                "draft" | "snapshot.new" | "image.new" => remove_all(&file),
                _ => {}
            }
        }
        found
    }
}
