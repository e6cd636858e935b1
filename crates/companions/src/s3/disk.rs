//! What is on disk.
//!
//! ```text
//! <root>/.temporary/            files being written, emptied at start
//! <root>/<bucket>/bucket.json
//! <root>/<bucket>/objects/<SHA-256 of the key in hex>
//! <root>/<bucket>/uploads/<upload id>/{upload.json,<part number>}
//! ```
//!
//! An object is one file: its bytes, then its [`ObjectRecord`] as JSON, then the record's length (4 bytes, big
//! endian) and a magic number. So one rename replaces content and description together, and keys need not be file
//! names.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::StorageError;
use super::checksums::Checksums;

const MAGIC: &[u8; 4] = b"HS3\x01";
/// Bytes after the record: its length and the magic number.
const TAIL_LENGTH: u64 = 8;
const TEMPORARY: &str = ".temporary";

/// Headers that are given back as they were stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attributes {
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Everything known of an object (or of a part of an upload) besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ObjectRecord {
    pub(super) key: String,
    pub(super) size: u64,
    /// Without quotes.
    pub(super) e_tag: String,
    /// Milliseconds since 1970.
    pub(super) modified_ms: i64,
    pub(super) checksums: Checksums,
    pub(super) attributes: Attributes,
}

/// A bucket's own description.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BucketRecord {
    pub(super) created_ms: i64,
}

/// Whether an existing object may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Replace,
    Keep,
}

/// An object opened for reading; the file stands at the first byte.
#[derive(Debug)]
pub(super) struct OpenObject {
    pub(super) record: ObjectRecord,
    pub(super) file: File,
}

impl OpenObject {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "not an object file");
        let tail_at = file.metadata()?.len().checked_sub(TAIL_LENGTH).ok_or_else(unreadable)?;
        let mut tail = [0; TAIL_LENGTH as usize];
        file.seek(SeekFrom::Start(tail_at))?;
        file.read_exact(&mut tail)?;
        let (length, magic) = tail.split_at(4);
        let length = u32::from_be_bytes(length.try_into().expect("invariant: four of eight bytes"));
        let size = tail_at.checked_sub(length.into()).filter(|_| magic == MAGIC).ok_or_else(unreadable)?;
        let mut json = vec![0; length as usize];
        file.seek(SeekFrom::Start(size))?;
        file.read_exact(&mut json)?;
        let record: ObjectRecord = serde_json::from_slice(&json)?;
        if record.size != size {
            return Err(unreadable());
        }
        file.rewind()?;
        Ok(Self { record, file })
    }

    /// Copies the object's bytes.
    pub(super) fn copy_to(&mut self, target: &mut File) -> io::Result<()> {
        let copied = io::copy(&mut (&self.file).take(self.record.size), target)?;
        if copied == self.record.size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// The directory with all buckets.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
}

impl Disk {
    pub(super) fn open(root: &Path) -> Result<Self, StorageError> {
        let temporary = root.join(TEMPORARY);
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StorageError::io(&temporary)(error));
            }
            _ => fs::create_dir_all(&temporary).map_err(StorageError::io(&temporary))?,
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Directory of a bucket that exists. Names come validated from `s3s`; others simply do not exist.
    pub(super) fn bucket(&self, name: &str) -> Result<PathBuf, StorageError> {
        let path = self.bucket_path(name);
        match path {
            Some(path) if path.join("bucket.json").is_file() => Ok(path),
            _ => Err(StorageError::NoSuchBucket(name.to_owned())),
        }
    }

    /// Where a bucket of this name is or would be; `None` when the name cannot be one.
    pub(super) fn bucket_path(&self, name: &str) -> Option<PathBuf> {
        s3s::path::check_bucket_name(name).then(|| self.root.join(name))
    }

    pub(super) fn bucket_names(&self) -> Result<Vec<String>, StorageError> {
        let entries = fs::read_dir(&self.root).map_err(StorageError::io(&self.root))?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| self.bucket(name).is_ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Path of an object in a bucket that exists, whether or not the object does.
    pub(super) fn object_path(&self, bucket: &str, key: &str) -> Result<PathBuf, StorageError> {
        let name = hex::encode(digest::digest(&digest::SHA256, key.as_bytes()));
        Ok(self.bucket(bucket)?.join("objects").join(name))
    }

    pub(super) fn object(&self, bucket: &str, key: &str) -> Result<OpenObject, StorageError> {
        let path = self.object_path(bucket, key)?;
        OpenObject::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StorageError::NoSuchKey(key.to_owned()),
            _ => StorageError::io(&path)(error),
        })
    }

    /// Records of all objects of a bucket in the order of their keys.
    pub(super) fn records(&self, bucket: &str) -> Result<Vec<ObjectRecord>, StorageError> {
        let directory = self.bucket(bucket)?.join("objects");
        let mut records = Vec::new();
        for entry in fs::read_dir(&directory).map_err(StorageError::io(&directory))? {
            let path = entry.map_err(StorageError::io(&directory))?.path();
            match OpenObject::open(&path) {
                Ok(object) => records.push(object.record),
                // Deleted between the listing and now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StorageError::io(&path)(error)),
            }
        }
        records.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(records)
    }

    /// A file that vanishes unless it is committed.
    pub(super) fn temporary(&self) -> Result<NamedTempFile, StorageError> {
        let directory = self.root.join(TEMPORARY);
        NamedTempFile::new_in(&directory).map_err(StorageError::io(&directory))
    }
}

/// Completes `content` (whose bytes are written) with its record and moves it to `path` in one step, durably.
/// `false`: there was one already and it was to be kept.
pub(super) fn commit(
    mut content: NamedTempFile,
    record: &ObjectRecord,
    path: &Path,
    existing: Existing,
) -> Result<bool, StorageError> {
    let json = serde_json::to_vec(record).expect("invariant: a record has string keys only");
    let mut write_tail = || {
        let file = content.as_file_mut();
        file.seek(SeekFrom::Start(record.size))?;
        file.write_all(&json)?;
        file.write_all(&(json.len() as u32).to_be_bytes())?;
        file.write_all(MAGIC)?;
        file.sync_all()
    };
    write_tail().map_err(StorageError::io(path))?;
    match existing {
        Existing::Replace => content.persist(path).map(|_| true),
        Existing::Keep => match content.persist_noclobber(path) {
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            other => other.map(|_| true),
        },
    }
    .map_err(|error| StorageError::io(path)(error.error))
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StorageError> {
    let json = serde_json::to_vec(value).expect("invariant: records have string keys only");
    fs::write(path, json).map_err(StorageError::io(path))
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StorageError> {
    let read = || serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from);
    read().map_err(StorageError::io(path))
}

/// Runs file work away from the async threads.
pub(super) async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.expect("invariant: file work does not panic")
}
