//! What is on disk.
//!
//! ```text
//! <root>/.temporary/            files being written, emptied at start
//! <root>/<bucket>/bucket.json                                         which has the bucket's id, see `bucket`
//! <root>/<bucket>/<id>/objects/<SHA-256 of the key in hex>            the current version
//! <root>/<bucket>/<id>/versions/<SHA-256 of the key in hex>/<version>  all others, see `versions`
//! <root>/<bucket>/<id>/uploads/<upload id>/{upload.json,<part number>}
//! ```
//!
//! Buckets from before they had ids have no directory `<id>`: what is in it stands in that of the name.
//!
//! An object is one file: its bytes, then its [`ObjectRecord`] as JSON, then the record's length (4 bytes, big
//! endian) and a magic number. So one rename replaces content and description together, and keys need not be file
//! names.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::Hasher as _;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use hearth_api::AccountId;
use hearth_auth::sigv4::sha256_hex;
use s3s::dto;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::StorageError;
use super::bucket::Bucket;
use super::checksums::{ChecksumType, Checksums};
use super::usage::{Reservation, StorageLimits, Usage, bytes_in, freed_by};

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
    #[serde(default)]
    pub(super) expires: Option<s3s::dto::Timestamp>,
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
    /// Of what the checksums are; simple objects have none of parts.
    #[serde(default)]
    pub(super) checksum_type: ChecksumType,
    pub(super) attributes: Attributes,
    #[serde(default)]
    pub(super) tags: Tags,
    /// `None` is the version that S3 calls `null`.
    #[serde(default)]
    pub(super) version: Option<String>,
    #[serde(default)]
    pub(super) delete_marker: bool,
    /// Nanoseconds since 1970: the order of an object's versions.
    #[serde(default)]
    pub(super) sequence: u64,
}

impl ObjectRecord {
    /// Of an object that arrives now; which version it is will be seen when it is put in place.
    pub(super) fn new(key: String, size: u64, e_tag: String) -> Self {
        Self {
            key,
            size,
            e_tag,
            modified_ms: jiff::Timestamp::now().as_millisecond(),
            checksums: Checksums::default(),
            checksum_type: ChecksumType::default(),
            attributes: Attributes::default(),
            tags: Tags::new(),
            version: None,
            delete_marker: false,
            sequence: 0,
        }
    }

    /// What its checksums are of; nothing when there are none.
    pub(super) fn shown_checksum_type(&self) -> Option<dto::ChecksumType> {
        (!self.checksums.is_empty()).then(|| self.checksum_type.to_dto())
    }
}

/// Tags by key.
pub(super) type Tags = BTreeMap<String, String>;

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

/// Number of locks that the keys of all buckets share, and of those that the names of buckets share.
const LOCKS: usize = 64;

/// The directory with all buckets.
#[derive(Debug)]
pub(super) struct Disk {
    root: Arc<Path>,
    /// Owner of buckets that say none.
    first_account: AccountId,
    /// Changes of one object come one after the other. Taken after that of the bucket's name.
    locks: [Mutex<()>; LOCKS],
    /// Shared by changes in a bucket, owned by changes of a bucket.
    pub(super) names: [RwLock<()>; LOCKS],
    pub(super) usage: Arc<Usage>,
}

impl Disk {
    pub(super) fn open(
        root: &Path,
        first_account: &AccountId,
        limits: StorageLimits,
    ) -> Result<Self, StorageError> {
        let temporary = root.join(TEMPORARY);
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StorageError::io(&temporary)(error));
            }
            _ => fs::create_dir_all(&temporary).map_err(StorageError::io(&temporary))?,
        }
        let disk = Self {
            root: root.into(),
            first_account: first_account.clone(),
            locks: std::array::from_fn(|_| Mutex::default()),
            names: std::array::from_fn(|_| RwLock::default()),
            usage: Arc::new(Usage::new(limits)),
        };
        for bucket in disk.buckets()? {
            disk.usage.count(&bucket)?;
        }
        Ok(disk)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn first_account(&self) -> AccountId {
        self.first_account.clone()
    }

    pub(super) fn limits(&self) -> StorageLimits {
        self.usage.limits()
    }

    /// Keeps others from changing what is at `path`.
    pub(super) fn lock(&self, path: &Path) -> MutexGuard<'_, ()> {
        self.locks[slot(path)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Path of an object, whether or not there is one.
    #[expect(clippy::unused_self, reason = "as all that lies on the disk is asked for")]
    pub(super) fn object_path(&self, bucket: &Bucket, key: &str) -> PathBuf {
        bucket.contents().join("objects").join(sha256_hex(key.as_bytes()))
    }

    /// The current version of an object.
    pub(super) fn object(&self, bucket: &Bucket, key: &str) -> Result<OpenObject, StorageError> {
        if let Some(object) = open_if_there(&self.object_path(bucket, key))? {
            return Ok(object);
        }
        self.check_there(bucket)?;
        Err(StorageError::NoSuchKey(key.to_owned()))
    }

    /// Records of all objects of a bucket in the order of their keys.
    pub(super) fn records(&self, bucket: &Bucket) -> Result<Vec<ObjectRecord>, StorageError> {
        self.check_there(bucket)?;
        let mut records = records_in(&bucket.contents().join("objects"))?;
        records.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(records)
    }

    /// A file that vanishes unless it is committed.
    pub(super) fn temporary(&self) -> Result<NamedTempFile, StorageError> {
        let directory = self.root.join(TEMPORARY);
        NamedTempFile::new_in(&directory).map_err(StorageError::io(&directory))
    }

    /// Takes `bytes` of what the bucket's account may have.
    pub(super) fn reserve(&self, bucket: &Bucket, bytes: u64) -> Result<Reservation, StorageError> {
        Reservation::new(&self.usage, &bucket.owner, &self.root, bytes)
    }

    /// Claims room for bytes that the account has already and that move into another file.
    pub(super) fn reserve_for_moving(
        &self,
        bucket: &Bucket,
        bytes: u64,
    ) -> Result<Reservation, StorageError> {
        Reservation::moving(&self.usage, &bucket.owner, &self.root, bytes)
    }

    /// Completes `content` (whose bytes are written) with its record and moves it to `path` in one step, durably. The
    /// bucket is held.
    pub(super) fn commit(
        &self,
        bucket: &Bucket,
        (mut content, reservation): (NamedTempFile, Reservation),
        record: &ObjectRecord,
        path: &Path,
    ) -> Result<(), StorageError> {
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
        let freed = freed_by(path);
        content.persist(path).map_err(|error| StorageError::io(path)(error.error))?;
        reservation.keep(record.size + json.len() as u64 + TAIL_LENGTH);
        self.usage.release(&bucket.owner, freed);
        Ok(())
    }

    /// Removes a file of a bucket; that it is not there is fine.
    pub(super) fn remove(&self, bucket: &Bucket, path: &Path) -> Result<(), StorageError> {
        let freed = freed_by(path);
        remove_file(path)?;
        self.usage.release(&bucket.owner, freed);
        Ok(())
    }

    /// Removes an unfinished upload.
    pub(super) fn remove_upload(&self, bucket: &Bucket, directory: &Path) -> Result<(), StorageError> {
        let freed = bytes_in(directory)?;
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io(directory)(error)),
            _ => {
                self.usage.release(&bucket.owner, freed);
                Ok(())
            }
        }
    }
}

/// Which lock is this one's.
pub(super) fn slot(of: impl std::hash::Hash) -> usize {
    let mut hasher = std::hash::DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish() as usize % LOCKS
}

/// `None`: there is no such file.
pub(super) fn open_if_there(path: &Path) -> Result<Option<OpenObject>, StorageError> {
    match OpenObject::open(path) {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io(path)(error)),
    }
}

/// Records of all object files of a directory; none when it is not there.
pub(super) fn records_in(directory: &Path) -> Result<Vec<ObjectRecord>, StorageError> {
    let mut records = Vec::new();
    for path in entries(directory)? {
        // It may have been deleted since the directory was read.
        records.extend(open_if_there(&path)?.map(|object| object.record));
    }
    Ok(records)
}

/// Paths in a directory; none when it is not there.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, StorageError> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .map_err(StorageError::io(directory)),
    }
}

/// Removes a file; that it is not there is fine.
fn remove_file(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io(path)(error)),
        _ => Ok(()),
    }
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
