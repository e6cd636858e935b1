//! What is on disk.
//!
//! ```text
//! <root>/.temporary/            files being written, emptied at start
//! <root>/<bucket>/bucket.json
//! <root>/<bucket>/objects/<SHA-256 of the key in hex>            the current version
//! <root>/<bucket>/versions/<SHA-256 of the key in hex>/<version>  all others, see `versions`
//! <root>/<bucket>/uploads/<upload id>/{upload.json,<part number>}
//! ```
//!
//! An object is one file: its bytes, then its [`ObjectRecord`] as JSON, then the record's length (4 bytes, big
//! endian) and a magic number. So one rename replaces content and description together, and keys need not be file
//! names.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hearth_api::AccountId;
use hearth_auth::sigv4::sha256_hex;
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
            attributes: Attributes::default(),
            tags: Tags::new(),
            version: None,
            delete_marker: false,
            sequence: 0,
        }
    }
}

/// Tags by key.
pub(super) type Tags = BTreeMap<String, String>;

/// A bucket's own description.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BucketRecord {
    pub(super) created_ms: i64,
    /// Account; buckets from before there were several have none, and belong to the first.
    #[serde(default)]
    pub(super) owner: Option<String>,
    /// `None`: never set.
    #[serde(default)]
    pub(super) versioning: Option<Versioning>,
    #[serde(default)]
    pub(super) tags: Tags,
    /// `None`: deleted. New buckets have all four settings ("Blocking public access to your Amazon S3 storage").
    #[serde(default = "PublicAccessBlock::all")]
    pub(super) public_access_block: Option<PublicAccessBlock>,
    /// Whether objects are to use a bucket key; only shown again.
    #[serde(default)]
    pub(super) bucket_key: bool,
    /// Whether there are ownership controls; the only ones are BucketOwnerEnforced.
    #[serde(default = "yes")]
    pub(super) ownership_controls: bool,
}

impl BucketRecord {
    /// Of a bucket that is made now.
    pub(super) fn new(owner: &AccountId) -> Self {
        Self {
            created_ms: jiff::Timestamp::now().as_millisecond(),
            owner: Some(owner.to_string()),
            versioning: None,
            tags: Tags::new(),
            public_access_block: PublicAccessBlock::all(),
            bucket_key: false,
            ownership_controls: true,
        }
    }
}

fn yes() -> bool {
    true
}

/// Whether overwriting and deleting keeps the former versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Versioning {
    Enabled,
    Suspended,
}

/// Settings that keep the public out. There is no way to let it in, so they are only shown again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the four settings of S3")]
pub(super) struct PublicAccessBlock {
    pub(super) block_public_acls: bool,
    pub(super) ignore_public_acls: bool,
    pub(super) block_public_policy: bool,
    pub(super) restrict_public_buckets: bool,
}

impl PublicAccessBlock {
    #[expect(clippy::unnecessary_wraps, reason = "the default of an optional member")]
    fn all() -> Option<Self> {
        Some(Self {
            block_public_acls: true,
            ignore_public_acls: true,
            block_public_policy: true,
            restrict_public_buckets: true,
        })
    }
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

/// Number of locks that the keys of all buckets share.
const LOCKS: usize = 64;

/// The directory with all buckets.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    /// Owner of buckets that say none.
    first_account: AccountId,
    /// Changes of one object, and of one bucket's description, come one after the other.
    locks: [Mutex<()>; LOCKS],
}

impl Disk {
    pub(super) fn open(root: &Path, first_account: &AccountId) -> Result<Self, StorageError> {
        let temporary = root.join(TEMPORARY);
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StorageError::io(&temporary)(error));
            }
            _ => fs::create_dir_all(&temporary).map_err(StorageError::io(&temporary))?,
        }
        let locks = std::array::from_fn(|_| Mutex::default());
        Ok(Self { root: root.to_owned(), first_account: first_account.clone(), locks })
    }

    /// Keeps others from changing what is at `path`.
    pub(super) fn lock(&self, path: &Path) -> MutexGuard<'_, ()> {
        let mut hasher = std::hash::DefaultHasher::new();
        path.hash(&mut hasher);
        let lock = &self.locks[hasher.finish() as usize % LOCKS];
        lock.lock().unwrap_or_else(PoisonError::into_inner)
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

    pub(super) fn bucket_record(&self, name: &str) -> Result<BucketRecord, StorageError> {
        read_json(&self.bucket(name)?.join("bucket.json"))
    }

    /// Account that a bucket belongs to.
    pub(super) fn owner(&self, bucket: &str) -> Result<AccountId, StorageError> {
        let owner = self.bucket_record(bucket)?.owner;
        Ok(owner.map_or_else(|| self.first_account.clone(), AccountId::from_stored))
    }

    /// Changes a bucket's description.
    pub(super) fn change_bucket(
        &self,
        name: &str,
        change: impl FnOnce(&mut BucketRecord),
    ) -> Result<(), StorageError> {
        let path = self.bucket(name)?.join("bucket.json");
        let _alone = self.lock(&path);
        let mut record: BucketRecord = read_json(&path)?;
        change(&mut record);
        self.write_bucket(&path, &record)
    }

    /// Writes a bucket's description in one step.
    pub(super) fn write_bucket(&self, path: &Path, record: &BucketRecord) -> Result<(), StorageError> {
        let content = self.temporary()?;
        write_json(content.path(), record)?;
        content.as_file().sync_all().map_err(StorageError::io(path))?;
        content.persist(path).map(drop).map_err(|error| StorageError::io(path)(error.error))
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
        let name = sha256_hex(key.as_bytes());
        Ok(self.bucket(bucket)?.join("objects").join(name))
    }

    /// The current version of an object.
    pub(super) fn object(&self, bucket: &str, key: &str) -> Result<OpenObject, StorageError> {
        let path = self.object_path(bucket, key)?;
        open_if_there(&path)?.ok_or_else(|| StorageError::NoSuchKey(key.to_owned()))
    }

    /// Records of all objects of a bucket in the order of their keys.
    pub(super) fn records(&self, bucket: &str) -> Result<Vec<ObjectRecord>, StorageError> {
        let mut records = records_in(&self.bucket(bucket)?.join("objects"))?;
        records.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(records)
    }

    /// A file that vanishes unless it is committed.
    pub(super) fn temporary(&self) -> Result<NamedTempFile, StorageError> {
        let directory = self.root.join(TEMPORARY);
        NamedTempFile::new_in(&directory).map_err(StorageError::io(&directory))
    }
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
pub(super) fn remove_file(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io(path)(error)),
        _ => Ok(()),
    }
}

/// Completes `content` (whose bytes are written) with its record and moves it to `path` in one step, durably.
pub(super) fn commit(
    mut content: NamedTempFile,
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
    content.persist(path).map(drop).map_err(|error| StorageError::io(path)(error.error))
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
