//! Names of snapshots.

use std::fmt;
use std::io;
use std::path::Path;

use crate::removal::if_there;

/// Name of a snapshot: the BLAKE3 of its manifest, in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(String);

impl SnapshotId {
    /// The id that a manifest gives.
    pub(crate) fn of(manifest: &[u8]) -> Self {
        Self(blake3::hash(manifest).to_hex().to_string())
    }

    /// The snapshot that a reference, or a manifest, is one of; `None` if the file is not there.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        Ok(if_there(std::fs::read(path))?.map(|manifest| Self::of(&manifest)))
    }

    /// The id that a snapshot's directory has as its name.
    pub(crate) fn of_directory(directory: &Path) -> Option<Self> {
        Some(Self(directory.file_name()?.to_str()?.to_owned()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
