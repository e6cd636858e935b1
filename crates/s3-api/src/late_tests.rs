//! No change lands in a bucket but the one that was found.

use super::*;
use crate::disk::ObjectRecord;
use crate::testing::{account, bucket as make, other_account, put, unlimited};
use crate::upload::Upload;
use crate::usage::StorageLimits;

#[test]
fn no_change_lands_in_the_next_bucket_of_the_name() {
    let root = tempfile::tempdir().unwrap();
    let disk = unlimited(root.path());
    let [first, second] = ["111122223333", "444455556666"].map(AccountId::from_stored);
    disk.make("shared", &first, Tags::new()).unwrap();
    let found = disk.find("shared").unwrap();
    let id = uuid::Uuid::new_v4().to_string();
    let directory = found.uploads().join(&id);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("upload.json"), r#"{"key":"k","attributes":{"metadata":{}},"initiated_ms":0}"#)
        .unwrap();
    let upload = Upload::open(&found, &id, "k").unwrap();
    put(&disk, &found, "key").unwrap();
    disk.delete(&found, "key", None).unwrap();
    disk.unmake(&found).unwrap();
    for again in [false, true] {
        if again {
            disk.make("shared", &second, Tags::new()).unwrap();
            put(&disk, &disk.find("shared").unwrap(), "key").unwrap();
        }
        let gone = |error: s3s::S3Error| {
            let code = error.code().as_str().to_owned();
            assert!(["NoSuchBucket", "NoSuchUpload"].contains(&code.as_str()), "{code}");
        };
        gone(put(&disk, &found, "key").unwrap_err());
        gone(disk.delete(&found, "key", None).unwrap_err());
        gone(disk.version(&found, "key", None).map(drop).unwrap_err());
        gone(disk.redescribe(&found, "key", None, |record| record.tags.clear()).unwrap_err());
        gone(disk.each_object(&found, |_| ()).unwrap_err().into());
        gone(disk.each_version(&found, |_| ()).unwrap_err().into());
        gone(disk.set(&found, Setting::Cors, Some("<x/>")).unwrap_err().into());
        gone(disk.change_bucket(&found, |record| record.bucket_key = true).unwrap_err().into());
        gone(disk.unmake(&found).unwrap_err().into());
        let content = (disk.temporary().unwrap(), disk.reserve(&found, 0).unwrap());
        let record = ObjectRecord::new("k".to_owned(), 0, String::new());
        gone(upload.put_part(&disk, &found, 1, content, &record).unwrap_err());
    }
    let now = disk.find("shared").unwrap();
    let mut objects = 0;
    disk.each_object(&now, |_| objects += 1).unwrap();
    assert_eq!((now.owner.clone(), objects), (second, 1));
}

#[test]
fn what_goes_is_given_back_and_what_is_there_is_counted_at_start() {
    let root = tempfile::tempdir().unwrap();
    let account = AccountId::from_stored("000000000000");
    let limits = StorageLimits { bytes: 6 * 4096, buckets: 0, free_bytes: 0 };
    let mut disk = Disk::open(root.path(), &account, limits).unwrap();
    disk.make("demo", &account, Tags::new()).unwrap();
    let bucket = disk.find("demo").unwrap();
    disk.change_bucket(&bucket, |record| record.versioning = Some(Versioning::Enabled)).unwrap();
    // The bucket itself has a block.
    let full = |disk: &Disk| disk.reserve(&bucket, 4096).is_err();
    let mut versions = Vec::new();
    for _ in 0..5 {
        assert!(!full(&disk));
        versions.push(put(&disk, &bucket, "key").unwrap().version.unwrap());
    }
    assert!(full(&disk));
    disk = Disk::open(root.path(), &account, limits).unwrap();
    assert!(full(&disk));
    for version in [4, 0, 3] {
        disk.delete(&bucket, "key", Some(&versions[version])).unwrap();
    }
    let rest = disk.reserve(&bucket, 3 * 4096).unwrap();
    assert!(full(&disk));
    drop(rest);
    // Replacing gives back what was replaced.
    disk.change_bucket(&bucket, |record| record.versioning = Some(Versioning::Suspended)).unwrap();
    for _ in 0..10 {
        put(&disk, &bucket, "key").unwrap();
    }
    assert!(disk.reserve(&bucket, 2 * 4096).is_ok());
}

#[test]
fn a_deleted_bucket_with_many_uploads_holds_no_lock_while_they_go() {
    let root = tempfile::tempdir().unwrap();
    let limits = StorageLimits { bytes: 20 * 4096, buckets: 0, free_bytes: 0 };
    let disk = Disk::open(root.path(), &account(), limits).unwrap();
    let bucket = make(&disk, "demo", &account(), None);
    for _ in 0..19 {
        let upload = bucket.uploads().join(uuid::Uuid::new_v4().to_string());
        fs::create_dir_all(&upload).unwrap();
        disk.write_counted(&account(), &upload.join("upload.json"), b"{}").unwrap();
    }
    assert!(disk.reserve(&bucket, 1).is_err());
    let aside = disk.set_aside(&bucket).unwrap();
    // The name is free again, and nothing has been removed so far.
    assert_eq!(entries(&aside.join(bucket.record.id.as_ref().unwrap()).join("uploads")).unwrap().count(), 19);
    assert!(disk.find_any("demo").unwrap().is_none() && disk.locks.name("demo").try_write().is_ok());
    disk.clear(&bucket.place, &aside).unwrap();
    make(&disk, "demo", &other_account(), None);
    assert!(disk.reserve(&bucket, 20 * 4096).is_ok());
    assert_eq!(entries(&root.path().join(".temporary")).unwrap().count(), 0);
}

#[test]
fn settings_count_for_the_account_and_go_when_nothing_is_left() {
    let root = tempfile::tempdir().unwrap();
    let limits = StorageLimits { bytes: 20 * 4096, buckets: 0, free_bytes: 0 };
    let mut disk = Disk::open(root.path(), &account(), limits).unwrap();
    let bucket = make(&disk, "demo", &account(), None);
    disk.set(&bucket, Setting::Notification, Some(&"n".repeat(14 * 4096))).unwrap();
    disk.change_bucket(&bucket, |record| record.policy = Some("p".repeat(3 * 4096))).unwrap();
    let refused = disk.set(&bucket, Setting::Cors, Some(&"c".repeat(3 * 4096)));
    assert!(matches!(refused, Err(StorageError::QuotaExceeded(_))), "{refused:?}");
    disk = Disk::open(root.path(), &account(), limits).unwrap();
    assert!(disk.reserve(&bucket, 3 * 4096).is_err());
    let rest = disk.reserve(&bucket, 2 * 4096).unwrap();
    disk.change_bucket(&bucket, |record| record.policy = None).unwrap();
    disk.set(&bucket, Setting::Notification, None).unwrap();
    drop(rest);
    assert!(disk.reserve(&bucket, 19 * 4096).is_ok());
}
