//! The files that `make build` leaves for guests: kernel, initial RAM file system, builder disk.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the guest files are, and the key that tells one set from another.
#[derive(Debug, Clone)]
pub struct Artefacts {
    /// Linux kernel.
    pub kernel: PathBuf,
    /// Initial RAM file system with the agent as `/init`.
    pub initrd: PathBuf,
    /// Initial RAM file system with more kernel modules, for apps with all capabilities:
    /// `initrd-all.img` beside `initrd.img`.
    pub initrd_all: PathBuf,
    /// Read-only ext4 disk with the Debian root that builds run in.
    pub builder_disk: PathBuf,
    /// Version of the managed base image that these files are (`1`).
    pub version: String,
    /// Hash over the manifest and the initial RAM file system: changes whenever a snapshot would.
    pub key: String,
}

/// The guest files are not usable.
#[derive(Debug, thiserror::Error)]
pub enum ArtefactsError {
    /// A file is missing or unreadable.
    #[error("the guest file {} cannot be read; run `make build`", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The manifest is not JSON of the expected form.
    #[error("the guest manifest {} is not readable; run `make build` again", path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct Manifest {
    version: String,
}

impl Artefacts {
    /// Finds the files in `directory` (`vmlinuz`, `builder.ext4`, `manifest.json`) and the
    /// initial RAM file system.
    pub fn load(directory: &Path, initrd: &Path) -> Result<Self, ArtefactsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| ArtefactsError::Unreadable { path: path.to_owned(), source })
        };
        let manifest_path = directory.join("manifest.json");
        let text = read(&manifest_path)?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|source| ArtefactsError::Manifest { path: manifest_path.clone(), source })?;
        let mut hasher = blake3::Hasher::new();
        // The modules for all capabilities are named by their hash in the manifest.
        hasher.update(&text).update(&read(initrd)?);
        let artefacts = Self {
            kernel: directory.join("vmlinuz"),
            initrd: initrd.to_owned(),
            initrd_all: with_all_modules(initrd),
            builder_disk: directory.join("builder.ext4"),
            version: manifest.version,
            key: hasher.finalize().to_hex()[..16].to_owned(),
        };
        for path in [&artefacts.kernel, &artefacts.builder_disk, &artefacts.initrd_all] {
            std::fs::File::open(path)
                .map_err(|source| ArtefactsError::Unreadable { path: path.clone(), source })?;
        }
        Ok(artefacts)
    }
}

/// `DIR/NAME-all.img` for `DIR/NAME.img`, as `scripts/pack-agent.sh` writes it.
fn with_all_modules(initrd: &Path) -> PathBuf {
    let stem = initrd.file_stem().unwrap_or_default().to_string_lossy();
    let extension = initrd.extension().map(|extension| format!(".{}", extension.to_string_lossy()));
    initrd.with_file_name(format!("{stem}-all{}", extension.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initrd_with_all_modules_lies_beside_the_other() {
        assert_eq!(with_all_modules(Path::new("/c/initrd.img")), Path::new("/c/initrd-all.img"));
        assert_eq!(with_all_modules(Path::new("/c/initrd")), Path::new("/c/initrd-all"));
    }
}
