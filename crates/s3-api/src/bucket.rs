//! Buckets as they are found, and what is written down about one.
//!
//! A name can have many buckets, one after the other. So a bucket has an identity besides its name,
//! made when it is made, and everything in it lies in a directory of that identity. A request finds
//! its bucket once, when it is authorised, and goes on with what it found: when the bucket is
//! deleted meanwhile, even when another of the same name is made, what arrives late has no place to
//! go. Changes hold the name's lock, under which the identity is compared once more, so that none
//! lands in a bucket that is being removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard};

use hearth_api::AccountId;
use hearth_iam::PolicyError;
use s3s::dto::CORSConfiguration;
use serde::{Deserialize, Serialize};

use super::bucket_policy::Policy;
use super::disk::{Disk, Tags, entries, read_json};
use super::index::Look;
use super::setting_files::{Inline, Setting};
use super::usage::{bytes_in, freed_by};
use super::{StorageError, stored};

/// Longest bucket policy in bytes ("Bucket policies for Amazon S3", S3 user guide: 20 KB).
pub(super) const MAXIMUM_POLICY: usize = 20 * 1024;

/// A bucket's own description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BucketRecord {
    pub(super) created_ms: i64,
    /// Which of all buckets that ever had the name; those from before there were
    /// identities have none.
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
    /// `None`: deleted. New buckets have all four settings ("Blocking public access to your
    /// Amazon S3 storage").
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
    /// Smallest object that changes its storage class; only shown again.
    #[serde(default)]
    pub(super) transition_minimum: Option<String>,
}

impl BucketRecord {
    /// Of a bucket that is made now.
    pub(super) fn new(owner: &AccountId, tags: Tags) -> Self {
        Self {
            created_ms: jiff::Timestamp::now().as_millisecond(),
            id: Some(uuid::Uuid::new_v4().to_string()),
            owner: Some(owner.to_string()),
            versioning: None,
            tags,
            public_access_block: PublicAccessBlock::all(),
            bucket_key: false,
            ownership_controls: true,
            policy: None,
            transition_minimum: None,
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("invariant: records have string keys only")
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

/// Where a bucket lies, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) owner: AccountId,
    /// Of all buckets of the name.
    directory: PathBuf,
    id: Option<String>,
}

impl Place {
    /// Directory of everything that is in this very bucket.
    pub(super) fn contents(&self) -> PathBuf {
        contents_in(&self.directory, self.id.as_deref())
    }

    pub(super) fn settings(&self) -> PathBuf {
        self.contents().join("settings")
    }

    pub(super) fn record_path(&self) -> PathBuf {
        self.directory.join("bucket.json")
    }
}

fn contents_in(directory: &Path, id: Option<&str>) -> PathBuf {
    // Before there were identities the name's directory was the bucket's.
    id.map_or_else(|| directory.to_owned(), |id| directory.join(id))
}

/// A bucket that was found. Shared by the requests about it, so that its policy is parsed once.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) owner: AccountId,
    /// As it was when the bucket was found.
    pub(super) record: BucketRecord,
    /// The policy in the record. One that cannot be read, which PutBucketPolicy does not take, is
    /// an error: nothing follows from half a policy.
    pub(super) policy: Result<Option<Policy>, PolicyError>,
    pub(super) cors: Option<CORSConfiguration>,
    cors_bytes: usize,
    pub(super) place: Place,
}

impl Bucket {
    pub(super) fn contents(&self) -> PathBuf {
        self.place.contents()
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.contents().join("uploads")
    }

    /// Whether both are one bucket.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.place == other.place
    }

    /// About how many bytes it takes in memory.
    pub(super) fn weight(&self) -> usize {
        // Of a parsed policy, a character of a pattern.
        const PIECE_BYTES: usize = 48;
        let tags: usize = self.record.tags.iter().map(|(key, value)| key.len() + value.len() + 100).sum();
        let policy = self.record.policy.as_ref().map_or(0, String::len);
        1024 + tags + policy * PIECE_BYTES + self.cors_bytes * 4
    }

    fn missing(&self) -> StorageError {
        StorageError::NoSuchBucket(self.name.clone())
    }
}

/// A bucket that stays as long as this lives, as it is now.
#[derive(Debug)]
pub(super) struct Held<'a> {
    pub(super) now: Arc<Bucket>,
    _name: RwLockReadGuard<'a, ()>,
}

impl Disk {
    /// The bucket that has this name now.
    pub(super) fn find(&self, name: &str) -> Result<Arc<Bucket>, StorageError> {
        match self.index.look(name) {
            Look::Missing => Err(StorageError::NoSuchBucket(name.to_owned())),
            Look::Loaded(bucket) => Ok(bucket),
            Look::Unloaded(change) => {
                let bucket = Arc::new(self.load(name)?);
                self.index.keep(&bucket, change);
                Ok(bucket)
            }
        }
    }

    fn load(&self, name: &str) -> Result<Bucket, StorageError> {
        let path = self.root().join(name).join("bucket.json");
        let record: BucketRecord = read_json(&path).map_err(|error| match error {
            StorageError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                StorageError::NoSuchBucket(name.to_owned())
            }
            error => error,
        })?;
        let place = self.place(name, &record)?;
        let policy = record.policy.as_deref().map(Policy::read).transpose().inspect_err(|error| {
            tracing::error!(bucket = name, %error, "a bucket policy cannot be read");
        });
        let cors_xml = self.setting(&place, Setting::Cors)?;
        let cors = cors_xml.as_deref().and_then(|xml| stored::read(xml).ok());
        let cors_bytes = cors_xml.map_or(0, |xml| xml.len());
        Ok(Bucket {
            name: name.to_owned(),
            owner: place.owner.clone(),
            record,
            policy,
            cors,
            cors_bytes,
            place,
        })
    }

    fn place(&self, name: &str, record: &BucketRecord) -> Result<Place, StorageError> {
        let directory = self.root().join(name);
        // What is in the file becomes a path.
        if record.id.as_ref().is_some_and(|id| uuid::Uuid::parse_str(id).is_err()) {
            let wrong = io::Error::new(io::ErrorKind::InvalidData, "the bucket's id is no UUID");
            return Err(StorageError::io(&directory.join("bucket.json"))(wrong));
        }
        let owner = record.owner.clone().map_or_else(|| self.first_account(), AccountId::from_stored);
        Ok(Place { name: name.to_owned(), owner, directory, id: record.id.clone() })
    }

    /// Finds all buckets, at start: one after the other, so that only one's
    /// description is in memory.
    pub(super) fn find_all(&self) -> Result<(), StorageError> {
        for directory in entries(self.root())? {
            let directory = directory?;
            let name = directory.file_name().and_then(|name| name.to_str());
            let Some(name) = name.filter(|name| s3s::path::check_bucket_name(name)) else { continue };
            let path = directory.join("bucket.json");
            if !path.is_file() {
                continue;
            }
            let json = fs::read(&path).map_err(StorageError::io(&path))?;
            let wrong = |error: serde_json::Error| StorageError::io(&path)(error.into());
            let mut record: BucketRecord = serde_json::from_slice(&json).map_err(wrong)?;
            let inline: Inline = serde_json::from_slice(&json).map_err(wrong)?;
            let place = self.place(name, &record)?;
            self.renew(&place, &mut record, inline)?;
            self.usage.count(&place)?;
            self.index.add(name, &place.owner, record.created_ms);
        }
        Ok(())
    }

    /// `None`: there is no such bucket.
    pub(super) fn find_any(&self, name: &str) -> Result<Option<Arc<Bucket>>, StorageError> {
        match self.find(name) {
            Ok(bucket) => Ok(Some(bucket)),
            Err(StorageError::NoSuchBucket(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps a bucket from being removed; an error when it was.
    pub(super) fn hold(&self, bucket: &Bucket) -> Result<Held<'_>, StorageError> {
        let name = self.locks.name(&bucket.name).read().unwrap_or_else(PoisonError::into_inner);
        Ok(Held { now: self.same(bucket)?, _name: name })
    }

    /// Keeps everybody else from a name.
    pub(super) fn own_name(&self, name: &str) -> RwLockWriteGuard<'_, ()> {
        self.locks.name(name).write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bucket as it is now, if it still is the one that was found.
    pub(super) fn same(&self, bucket: &Bucket) -> Result<Arc<Bucket>, StorageError> {
        match self.find(&bucket.name) {
            Ok(now) if now.is(bucket) => Ok(now),
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
    pub(super) fn make(&self, name: &str, owner: &AccountId, tags: Tags) -> Result<(), StorageError> {
        if !s3s::path::check_bucket_name(name) {
            return Err(StorageError::NoSuchBucket(name.to_owned()));
        }
        let record = BucketRecord::new(owner, tags);
        let place = self.place(name, &record)?;
        let objects = place.contents().join("objects");
        let made = fs::create_dir_all(&objects)
            .map_err(StorageError::io(&objects))
            .and_then(|()| self.write_counted(owner, &place.record_path(), &record.to_json()));
        if made.is_err() {
            // Perhaps nothing is left of the quota. What cannot be removed is not found
            // without its description.
            let _ = fs::remove_dir_all(&place.directory);
        }
        made?;
        self.index.add(name, owner, record.created_ms);
        Ok(())
    }

    /// Removes a bucket with unfinished uploads; an error when there are objects or versions.
    pub(super) fn unmake(&self, bucket: &Bucket) -> Result<(), StorageError> {
        let aside = self.set_aside(bucket)?;
        // There can be a million uploads. Others, whose buckets share the lock of the name,
        // do not wait for that.
        if let Err(error) = self.clear(&bucket.place, &aside) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(
                bucket = bucket.name,
                error,
                "what was left of a deleted bucket goes at the next start"
            );
        }
        Ok(())
    }

    /// Takes away an empty bucket's name and moves what is left of it to where nobody looks.
    pub(super) fn set_aside(&self, bucket: &Bucket) -> Result<PathBuf, StorageError> {
        let _alone = self.own_name(&bucket.name);
        self.same(bucket)?;
        for directory in ["versions", "objects"] {
            let path = bucket.contents().join(directory);
            match fs::remove_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    // The second is not touched when the first is not empty, and the first is
                    // made again when needed.
                    return Err(StorageError::BucketNotEmpty(bucket.name.clone()));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StorageError::io(&path)(error));
                }
                _ => {}
            }
        }
        let aside = self.unused_path();
        let directory = &bucket.place.directory;
        fs::rename(directory, &aside).map_err(StorageError::io(directory))?;
        self.index.remove(&bucket.name);
        Ok(aside)
    }

    /// Removes what is left of a bucket that was set aside, and gives its bytes back as they go.
    pub(super) fn clear(&self, place: &Place, aside: &Path) -> Result<(), StorageError> {
        let contents = contents_in(aside, place.id.as_deref());
        for upload in entries(&contents.join("uploads"))? {
            self.remove_upload_of(&place.owner, &upload?)?;
        }
        let rest = freed_by(&aside.join("bucket.json")) + bytes_in(&contents.join("settings"))?;
        fs::remove_dir_all(aside).map_err(StorageError::io(aside))?;
        self.usage.release(&place.owner, rest);
        Ok(())
    }

    /// Changes a bucket's description.
    pub(super) fn change_bucket(
        &self,
        bucket: &Bucket,
        change: impl FnOnce(&mut BucketRecord),
    ) -> Result<(), StorageError> {
        let _alone = self.own_name(&bucket.name);
        let mut record = self.same(bucket)?.record.clone();
        change(&mut record);
        self.write_counted(&bucket.owner, &bucket.place.record_path(), &record.to_json())?;
        self.index.changed(&bucket.name);
        Ok(())
    }
}

#[cfg(test)]
#[path = "late_tests.rs"]
mod late_tests;
