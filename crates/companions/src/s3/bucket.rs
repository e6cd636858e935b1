//! Buckets as they are found, and what is written down about one.
//!
//! A name can have many buckets, one after the other. So a bucket has an identity besides its name, made when it is made,
//! and everything in it lies in a directory of that identity. A request finds its bucket once, when it is authorised,
//! and goes on with what it found: when the bucket is deleted meanwhile, even when another of the same name is made, what
//! arrives late has no place to go. Changes hold the name's lock, under which the identity is compared once more, so that
//! none lands in a bucket that is being removed.

use std::fs;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLockReadGuard, RwLockWriteGuard};

use hearth_api::AccountId;
use hearth_iam::{Document, DocumentKind};
use serde::{Deserialize, Serialize};

use super::StorageError;
use super::disk::{Disk, Tags, read_json, slot, write_json};

/// Longest bucket policy in characters ("Bucket policies for Amazon S3", S3 user guide: 20 KB).
pub(super) const MAXIMUM_POLICY: usize = 20 * 1024;

/// A bucket's own description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BucketRecord {
    pub(super) created_ms: i64,
    /// Which of all buckets that ever had the name; those from before there were identities have none.
    #[serde(default)]
    pub(super) id: Option<String>,
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
    /// The bucket policy as it was put.
    #[serde(default)]
    pub(super) policy: Option<String>,
    /// In S3's XML, and so are `cors` and `notification`.
    #[serde(default)]
    pub(super) lifecycle: Option<String>,
    /// Smallest object that changes its storage class; only shown again.
    #[serde(default)]
    pub(super) transition_minimum: Option<String>,
    #[serde(default)]
    pub(super) cors: Option<String>,
    #[serde(default)]
    pub(super) notification: Option<String>,
}

impl BucketRecord {
    /// Of a bucket that is made now.
    pub(super) fn new(owner: &AccountId) -> Self {
        Self {
            created_ms: jiff::Timestamp::now().as_millisecond(),
            id: Some(uuid::Uuid::new_v4().to_string()),
            owner: Some(owner.to_string()),
            versioning: None,
            tags: Tags::new(),
            public_access_block: PublicAccessBlock::all(),
            bucket_key: false,
            ownership_controls: true,
            policy: None,
            lifecycle: None,
            transition_minimum: None,
            cors: None,
            notification: None,
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

/// Settings that keep the public out.
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

/// A bucket that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) owner: AccountId,
    /// As it was when the bucket was found.
    pub(super) record: BucketRecord,
    /// Of all buckets of the name.
    directory: PathBuf,
}

impl Bucket {
    /// Directory of everything that is in this very bucket.
    pub(super) fn contents(&self) -> PathBuf {
        // Before there were identities the name's directory was the bucket's.
        self.record.id.as_ref().map_or_else(|| self.directory.clone(), |id| self.directory.join(id))
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.contents().join("uploads")
    }

    /// The bucket policy. One that cannot be read, which PutBucketPolicy does not take, is an error: nothing follows from
    /// half a policy.
    pub(super) fn policy(&self) -> Result<Option<Document>, hearth_iam::PolicyError> {
        let policy = self.record.policy.as_ref();
        policy.map(|text| Document::parse(text, DocumentKind::Resource, MAXIMUM_POLICY)).transpose()
    }

    fn missing(&self) -> StorageError {
        StorageError::NoSuchBucket(self.name.clone())
    }
}

/// A bucket that stays as long as this lives, with its description as it is now.
#[derive(Debug)]
pub(super) struct Held<'a> {
    pub(super) record: BucketRecord,
    _name: RwLockReadGuard<'a, ()>,
}

impl Disk {
    /// The bucket that has this name now. Names come validated from `s3s`; others simply do not exist.
    pub(super) fn find(&self, name: &str) -> Result<Bucket, StorageError> {
        let missing = || StorageError::NoSuchBucket(name.to_owned());
        let directory = self.bucket_path(name).ok_or_else(missing)?;
        let path = directory.join("bucket.json");
        if !path.is_file() {
            return Err(missing());
        }
        let record: BucketRecord = read_json(&path)?;
        // What is in the file becomes a path.
        if record.id.as_ref().is_some_and(|id| uuid::Uuid::parse_str(id).is_err()) {
            let wrong = std::io::Error::new(std::io::ErrorKind::InvalidData, "the bucket's id is no UUID");
            return Err(StorageError::io(&path)(wrong));
        }
        let owner = record.owner.clone().map_or_else(|| self.first_account(), AccountId::from_stored);
        Ok(Bucket { name: name.to_owned(), owner, record, directory })
    }

    /// `None`: there is no such bucket.
    pub(super) fn find_any(&self, name: &str) -> Result<Option<Bucket>, StorageError> {
        match self.find(name) {
            Ok(bucket) => Ok(Some(bucket)),
            Err(StorageError::NoSuchBucket(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps a bucket from being removed; an error when it was.
    pub(super) fn hold(&self, bucket: &Bucket) -> Result<Held<'_>, StorageError> {
        let name = self.name_lock(&bucket.name).read().unwrap_or_else(PoisonError::into_inner);
        Ok(Held { record: self.same(bucket)?, _name: name })
    }

    /// Keeps everybody else from a name.
    pub(super) fn own_name(&self, name: &str) -> RwLockWriteGuard<'_, ()> {
        self.name_lock(name).write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The description of a bucket, if it still is the one that was found.
    fn same(&self, bucket: &Bucket) -> Result<BucketRecord, StorageError> {
        match self.find(&bucket.name) {
            Ok(now) if now.record.id == bucket.record.id => Ok(now.record),
            Ok(_) => Err(bucket.missing()),
            Err(error) => Err(error),
        }
    }

    /// Refuses when a bucket is no longer there; another of its name does not count.
    #[expect(clippy::unused_self, reason = "as all that lies on the disk is asked for")]
    pub(super) fn check_there(&self, bucket: &Bucket) -> Result<(), StorageError> {
        if bucket.contents().join("objects").is_dir() { Ok(()) } else { Err(bucket.missing()) }
    }

    /// Makes a bucket; the name is owned and free.
    pub(super) fn make(&self, name: &str, owner: &AccountId) -> Result<(), StorageError> {
        let missing = || StorageError::NoSuchBucket(name.to_owned());
        let directory = self.bucket_path(name).ok_or_else(missing)?;
        let record = BucketRecord::new(owner);
        let bucket = Bucket { name: name.to_owned(), owner: owner.clone(), record, directory };
        let objects = bucket.contents().join("objects");
        fs::create_dir_all(&objects).map_err(StorageError::io(&objects))?;
        self.write_bucket(&bucket)
    }

    /// Removes a bucket whose name is owned, with unfinished uploads; an error when there are objects or versions.
    pub(super) fn unmake(&self, bucket: &Bucket) -> Result<(), StorageError> {
        self.same(bucket)?;
        for directory in ["versions", "objects"] {
            let path = bucket.contents().join(directory);
            match fs::remove_dir(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                    // The second is not touched when the first is not empty, and the first is made again when needed.
                    return Err(StorageError::BucketNotEmpty(bucket.name.clone()));
                }
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StorageError::io(&path)(error));
                }
                _ => {}
            }
        }
        for upload in super::disk::entries(&bucket.uploads())? {
            self.remove_upload(bucket, &upload)?;
        }
        fs::remove_dir_all(&bucket.directory).map_err(StorageError::io(&bucket.directory))
    }

    /// Changes a bucket's description.
    pub(super) fn change_bucket(
        &self,
        bucket: &Bucket,
        change: impl FnOnce(&mut BucketRecord),
    ) -> Result<(), StorageError> {
        let _alone = self.own_name(&bucket.name);
        let mut record = self.same(bucket)?;
        change(&mut record);
        self.write_bucket(&Bucket { record, ..bucket.clone() })
    }

    /// Writes a bucket's description in one step.
    fn write_bucket(&self, bucket: &Bucket) -> Result<(), StorageError> {
        let path = bucket.directory.join("bucket.json");
        let content = self.temporary()?;
        write_json(content.path(), &bucket.record)?;
        content.as_file().sync_all().map_err(StorageError::io(&path))?;
        content.persist(&path).map(drop).map_err(|error| StorageError::io(&path)(error.error))
    }

    /// Where a bucket of this name is or would be; `None` when the name cannot be one.
    fn bucket_path(&self, name: &str) -> Option<PathBuf> {
        s3s::path::check_bucket_name(name).then(|| self.root().join(name))
    }

    /// All buckets in the order of their names.
    pub(super) fn buckets(&self) -> Result<Vec<Bucket>, StorageError> {
        let entries = fs::read_dir(self.root()).map_err(StorageError::io(self.root()))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut buckets = Vec::new();
        for name in names {
            match self.find(&name) {
                Ok(bucket) => buckets.push(bucket),
                Err(StorageError::NoSuchBucket(_)) => {}
                Err(error) => return Err(error),
            }
        }
        buckets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(buckets)
    }

    fn name_lock(&self, name: &str) -> &std::sync::RwLock<()> {
        &self.names[slot(name)]
    }
}

#[cfg(test)]
#[path = "late_tests.rs"]
mod late_tests;
