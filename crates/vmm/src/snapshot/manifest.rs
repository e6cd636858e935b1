//! `manifest.json`: what a snapshot consists of, with checksums.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{DiskState, MANIFEST_FILE, Platform, damaged, file_error, settle};
use crate::error::{Error, Result};

/// Format of the manifest and of the files it names. Others than these are refused.
const FORMAT_VERSION: u32 = 4;
/// The oldest that is read: it has no `disks`. Those before the present one say neither the
/// architecture nor what a layer holds as a whole.
const OLDEST_VERSION: u32 = 2;

/// Description of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format version.
    pub format_version: u32,
    /// On what it was taken: the driver's own, which nobody else reads.
    pub platform: Platform,
    /// Size of the guest's RAM in bytes.
    pub memory_bytes: u64,
    /// Where the RAM's content is.
    pub memory: MemoryLayout,
    /// The device state file.
    pub device_state: DeviceState,
    /// The disks that the guest could write to.
    #[serde(default)]
    pub disks: Vec<DiskState>,
}

/// A manifest as it is in its file: with a checksum of itself.
#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(flatten)]
    manifest: Manifest,
    /// BLAKE3 of the manifest as JSON without white space. Format 2 does not have it.
    blake3: Option<String>,
}

/// The one member that manifests of all formats have.
#[derive(Deserialize)]
struct Format {
    format_version: u32,
}

/// Where the content of the RAM is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MemoryLayout {
    /// In the file `memory`.
    Base {
        /// Bytes that the file takes on disk.
        allocated_bytes: u64,
        /// Digest of its content, see [`super::sparse_digest`].
        blake3: String,
    },
    /// In the base, and above it in layers, oldest first.
    Layers {
        /// Digest of the base that these layers belong to.
        base_blake3: String,
        /// The layers.
        layers: Vec<LayerFile>,
    },
}

/// A layer file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFile {
    /// File name inside the directory.
    pub file: String,
    /// Number of pages whose content it holds.
    pub data_pages: u32,
    /// BLAKE3 of its table, which holds the hash of each page.
    pub table_blake3: String,
    /// BLAKE3 of its content: of the BLAKE3 of each batch of pages that was written, in the order
    /// of the file, and of that of the table. Tells it apart from every other layer, also from one
    /// that a guest has made up; what is read is checked page by page. `None` before format 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

/// A device state file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceState {
    /// File name inside the directory.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its content.
    pub blake3: String,
}

impl DeviceState {
    /// Writes the file `name` into the directory.
    pub(crate) fn write(directory: &Path, name: &str, content: &[u8]) -> Result<Self> {
        let path = directory.join(name);
        let mut file = File::create(&path).map_err(|source| file_error("create", &path, source))?;
        file.write_all(content).map_err(|source| file_error("write", &path, source))?;
        settle(&file, &path)?;
        Ok(Self::describe(name, content))
    }

    fn describe(name: &str, content: &[u8]) -> Self {
        let blake3 = blake3::hash(content).to_hex().to_string();
        Self { file: name.to_owned(), bytes: content.len() as u64, blake3 }
    }

    /// Opens the file after checking its content.
    pub(crate) fn open(&self, directory: &Path) -> Result<File> {
        let path = directory.join(&self.file);
        let mut file = File::open(&path).map_err(|source| file_error("open", &path, source))?;
        let mut content = Vec::new();
        let read = file.read_to_end(&mut content).and_then(|_| file.rewind());
        read.map_err(|source| file_error("read", &path, source))?;
        if Self::describe(&self.file, &content) != *self {
            return Err(damaged(&path, "its checksum is not the one in the manifest"));
        }
        Ok(file)
    }
}

impl Manifest {
    /// A manifest of the current format.
    pub(crate) fn new(
        platform: Platform,
        memory_bytes: u64,
        memory: MemoryLayout,
        device_state: DeviceState,
        disks: Vec<DiskState>,
    ) -> Self {
        Self { format_version: FORMAT_VERSION, platform, memory_bytes, memory, device_state, disks }
    }

    /// Reads the manifest of a directory; `None` if there is no snapshot in it.
    pub fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(MANIFEST_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(file_error("read", &path, source)),
        };
        let no_manifest = |error: serde_json::Error| damaged(&path, error.to_string());
        let Format { format_version: found } = serde_json::from_slice(&text).map_err(no_manifest)?;
        if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&found) {
            return Err(Error::OtherFormat { path, found, known: FORMAT_VERSION });
        }
        let Sealed { manifest, blake3 } = serde_json::from_slice(&text).map_err(no_manifest)?;
        if blake3.is_none() && found == OLDEST_VERSION || blake3 == Some(manifest.checksum()) {
            Ok(Some(manifest))
        } else {
            Err(damaged(&path, "it does not have the checksum that it gives"))
        }
    }

    fn checksum(&self) -> String {
        let text = serde_json::to_vec(self).expect("invariant: a manifest is plain data");
        blake3::hash(&text).to_hex().to_string()
    }

    /// Reads the manifest of a directory that must hold a snapshot.
    pub(crate) fn read_existing(directory: &Path) -> Result<Self> {
        Self::read(directory)?.ok_or_else(|| damaged(&directory.join(MANIFEST_FILE), "there is no snapshot"))
    }

    /// Writes the manifest aside and renames it: from then on the snapshot is the one described.
    pub(crate) fn commit(&self, directory: &Path) -> Result<()> {
        let path = directory.join(MANIFEST_FILE);
        let aside = directory.join("manifest.json.new");
        let sealed = Sealed { manifest: self.clone(), blake3: Some(self.checksum()) };
        let text = serde_json::to_vec_pretty(&sealed).expect("invariant: a manifest is plain data");
        let mut file = File::create(&aside).map_err(|source| file_error("create", &aside, source))?;
        file.write_all(&text).map_err(|source| file_error("write", &aside, source))?;
        settle(&file, &aside)?;
        fs::rename(&aside, &path).map_err(|source| file_error("rename", &aside, source))?;
        let parent = File::open(directory).map_err(|source| file_error("open", directory, source))?;
        settle(&parent, directory)
    }

    /// The layers, oldest first; none for a base.
    pub(crate) fn layer_files(&self) -> &[LayerFile] {
        match &self.memory {
            MemoryLayout::Base { .. } => &[],
            MemoryLayout::Layers { layers, .. } => layers,
        }
    }

    /// How many snapshots in layers there were up to this one; 0 for a base.
    pub(crate) fn generation(&self) -> u32 {
        let digits = self.device_state.file.rsplit('.').next();
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// Digest of the base's memory.
    pub(crate) fn base_digest(&self) -> &str {
        match &self.memory {
            MemoryLayout::Base { blake3, .. } => blake3,
            MemoryLayout::Layers { base_blake3, .. } => base_blake3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let device_state = DeviceState { file: "device-state".into(), bytes: 3, blake3: "00".into() };
        let memory = MemoryLayout::Base { allocated_bytes: 4096, blake3: "11".into() };
        Manifest::new(Platform::for_tests(), 1 << 29, memory, device_state, Vec::new())
    }

    #[test]
    fn a_committed_manifest_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(directory.path()).unwrap(), None);
        manifest().commit(directory.path()).unwrap();
        assert_eq!(Manifest::read(directory.path()).unwrap(), Some(manifest()));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn no_bit_of_a_manifest_can_change_unnoticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(MANIFEST_FILE);
        manifest().commit(directory.path()).unwrap();
        let text = fs::read(&path).unwrap();
        for (at, bit) in (0..text.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut changed = text.clone();
            changed[at] ^= 1 << bit;
            fs::write(&path, changed).unwrap();
            let read = Manifest::read(directory.path());
            assert!(read.is_err() || read.unwrap() == Some(manifest()), "byte {at}, bit {bit}");
        }
    }

    #[test]
    fn a_manifest_of_the_format_before_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let mut old = serde_json::to_value(manifest()).unwrap();
        old["format_version"] = 2.into();
        old.as_object_mut().unwrap().remove("disks");
        fs::write(directory.path().join(MANIFEST_FILE), old.to_string()).unwrap();
        let read = Manifest::read(directory.path()).unwrap().unwrap();
        assert_eq!(read, Manifest { format_version: 2, ..manifest() });
    }

    #[test]
    fn another_format_is_refused_and_garbage_is_damage() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(MANIFEST_FILE), r#"{"format_version":1,"vmm":"QEMU"}"#).unwrap();
        let error = Manifest::read(directory.path()).unwrap_err();
        assert!(matches!(error, Error::OtherFormat { found: 1, .. }), "{error}");
        fs::write(directory.path().join(MANIFEST_FILE), "{").unwrap();
        let error = Manifest::read(directory.path()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }

    #[test]
    fn a_changed_device_state_is_damage() {
        let directory = tempfile::tempdir().unwrap();
        let state = DeviceState::write(directory.path(), "device-state", b"abc").unwrap();
        assert_eq!(state.bytes, 3);
        state.open(directory.path()).unwrap();
        fs::write(directory.path().join("device-state"), "abd").unwrap();
        let error = state.open(directory.path()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
}
