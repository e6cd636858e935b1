//! Where images, microVMs and builds keep their files below the data directory, and how much room
//! there is for them.
//!
//! Reading order: `files`.

mod files;

use std::path::Path;

pub use files::{Files, ImageFiles, MicrovmFiles};

/// Bytes that an unprivileged user may still write to the file system that `path` is on
/// (statvfs(3)).
pub fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
