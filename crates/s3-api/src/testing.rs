//! Buckets for tests.

use std::path::Path;
use std::sync::Arc;

use hearth_api::AccountId;

use super::bucket::{Bucket, Versioning};
use super::conditions::Condition;
use super::disk::{Disk, ObjectRecord, Tags};
use super::usage::StorageLimits;

pub(super) fn account() -> AccountId {
    AccountId::from_stored("000000000000")
}

pub(super) fn other_account() -> AccountId {
    AccountId::from_stored("111122223333")
}

pub(super) fn unlimited(root: &Path) -> Disk {
    let limits = StorageLimits { bytes: 0, buckets: 0, free_bytes: 0 };
    Disk::open(root, &account(), limits).unwrap()
}

/// A bucket, with versions if it is to have them.
pub(super) fn bucket(
    disk: &Disk,
    name: &str,
    owner: &AccountId,
    versioning: Option<Versioning>,
) -> Arc<Bucket> {
    disk.make(name, owner, Tags::new()).unwrap();
    let bucket = disk.find(name).unwrap();
    disk.change_bucket(&bucket, |record| record.versioning = versioning).unwrap();
    disk.find(name).unwrap()
}

/// Puts an empty object.
pub(super) fn put(disk: &Disk, bucket: &Bucket, key: &str) -> s3s::S3Result<ObjectRecord> {
    let content = (disk.temporary()?, disk.reserve(bucket, 0)?);
    let always = Condition { if_match: None, if_none_match: None };
    disk.put(bucket, content, ObjectRecord::new(key.to_owned(), 0, String::new()), &always)
}
