//! No change lands in a bucket but the one that was found.

use super::*;
use crate::s3::conditions::Condition;
use crate::s3::disk::ObjectRecord;
use crate::s3::upload::Upload;
use crate::s3::usage::StorageLimits;

fn unlimited(root: &std::path::Path) -> Disk {
    let limits = StorageLimits { bytes: 0, buckets: 0, free_bytes: 0 };
    Disk::open(root, &AccountId::from_stored("000000000000"), limits).unwrap()
}

fn put(disk: &Disk, bucket: &Bucket, key: &str) -> s3s::S3Result<ObjectRecord> {
    let content = (disk.temporary()?, disk.reserve(bucket, 0)?);
    let always = Condition { if_match: None, if_none_match: None };
    disk.put(bucket, content, ObjectRecord::new(key.to_owned(), 0, String::new()), &always)
}

#[test]
fn no_change_lands_in_the_next_bucket_of_the_name() {
    let root = tempfile::tempdir().unwrap();
    let disk = unlimited(root.path());
    let [first, second] = ["111122223333", "444455556666"].map(AccountId::from_stored);
    disk.make("shared", &first).unwrap();
    let found = disk.find("shared").unwrap();
    let id = uuid::Uuid::new_v4().to_string();
    let directory = found.uploads().join(&id);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("upload.json"), r#"{"key":"k","attributes":{"metadata":{}},"initiated_ms":0}"#)
        .unwrap();
    let upload = Upload::open(&found, &id, "k").unwrap();
    put(&disk, &found, "key").unwrap();
    disk.delete_when(&found, "key", None, None).unwrap();
    disk.unmake(&found).unwrap();
    for again in [false, true] {
        if again {
            disk.make("shared", &second).unwrap();
            put(&disk, &disk.find("shared").unwrap(), "key").unwrap();
        }
        let gone = |error: s3s::S3Error| {
            let code = error.code().as_str().to_owned();
            assert!(["NoSuchBucket", "NoSuchUpload"].contains(&code.as_str()), "{code}");
        };
        gone(put(&disk, &found, "key").unwrap_err());
        gone(disk.delete_when(&found, "key", None, None).unwrap_err());
        gone(disk.version(&found, "key", None).map(drop).unwrap_err());
        gone(disk.redescribe(&found, "key", None, |record| record.tags.clear()).unwrap_err());
        gone(disk.records(&found).map(drop).unwrap_err().into());
        gone(disk.versions(&found).map(drop).unwrap_err().into());
        gone(disk.change_bucket(&found, |record| record.bucket_key = true).unwrap_err().into());
        gone(disk.unmake(&found).unwrap_err().into());
        let content = (disk.temporary().unwrap(), disk.reserve(&found, 0).unwrap());
        let record = ObjectRecord::new("k".to_owned(), 0, String::new());
        gone(upload.put_part(&disk, &found, 1, content, &record).unwrap_err());
    }
    let now = disk.find("shared").unwrap();
    assert_eq!((now.owner.clone(), disk.records(&now).unwrap().len()), (second, 1));
}

#[test]
fn what_goes_is_given_back_and_what_is_there_is_counted_at_start() {
    let root = tempfile::tempdir().unwrap();
    let account = AccountId::from_stored("000000000000");
    let limits = StorageLimits { bytes: 5 * 4096, buckets: 0, free_bytes: 0 };
    let mut disk = Disk::open(root.path(), &account, limits).unwrap();
    disk.make("demo", &account).unwrap();
    let bucket = disk.find("demo").unwrap();
    disk.change_bucket(&bucket, |record| record.versioning = Some(Versioning::Enabled)).unwrap();
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
        disk.delete_when(&bucket, "key", Some(&versions[version]), None).unwrap();
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
