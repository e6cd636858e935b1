//! Snapshots on disk: what the files are, how they are written so that none is ever half there.
//!
//! A directory holds one snapshot, described by its `manifest.json`, the rename of which makes it.
//! From then on nothing in it changes.
//!
//! | kind  | files | is |
//! |---|---|---|
//! | base  | `memory`, `device-state` | all RAM, sparse, never written again; clones map it |
//! | layer | `memory.NNNN.layer`, `device-state.NNNN` | pages that differ from the base's |
//!
//! The layers of the snapshot before are in the next one too, as links.

mod base;
mod compact;
mod digest;
mod disk;
mod kept;
mod layer;
mod layers;
mod manifest;
mod overlay;
mod platform;
mod verified;

use std::fs::File;
use std::io;
use std::path::Path;

pub use base::verify;
pub use compact::compact;
pub use digest::sparse_digest;
pub use disk::{DiskState, SnapshotDisk};
pub use kept::copy_disk;
pub use layer::{PageSink, PageSource};
pub use manifest::{DeviceState, LayerFile, Manifest, MemoryLayout};
pub use overlay::create_overlay;
pub use platform::Platform;

pub(crate) use base::finish_base;
pub(crate) use layers::{LayerSnapshot, LayerStack, Restoration};
pub(crate) use verified::Verified;

use crate::error::{Error, Result};

/// File name of a snapshot's description.
pub const MANIFEST_FILE: &str = "manifest.json";
/// How many snapshots in layers there were up to the one in a directory, merged or not; 0 for a
/// base and without any. [`Error::Damaged`] when that cannot be told.
pub fn generation(directory: &Path) -> Result<u32> {
    Ok(Manifest::read(directory)?.map_or(0, |manifest| manifest.generation()))
}

/// File name of a base's RAM.
pub const MEMORY_FILE: &str = "memory";
/// File name of a base's device state.
pub const DEVICE_STATE_FILE: &str = "device-state";

/// Makes a file survive a power failure: SUSPENDED is a promise. What it costs:
/// docs/reliability.md.
fn settle(file: &File, path: &Path) -> Result<()> {
    file.sync_all().map_err(|source| file_error("sync", path, source))
}

/// The error of a file operation; a full disk is told apart, and a snapshot's file that is
/// not there is damage.
pub fn file_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound if action == "open" => damaged(path, "it is missing"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::NoSpace { path: path.to_path_buf() }
        }
        _ => Error::File { action, path: path.to_path_buf(), source },
    }
}

/// The error of a file that is not what it should be.
pub fn damaged(path: &Path, detail: impl Into<String>) -> Error {
    Error::Damaged { path: path.to_path_buf(), detail: detail.into() }
}
