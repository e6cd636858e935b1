//! Which version is the newest, and what is read to know it.

use std::collections::BTreeSet;

use super::*;
use crate::bucket::Versioning;
use crate::disk::OpenObject;
use crate::listing::Listed as _;
use crate::object_file::reads;
use crate::testing::{account, bucket, put, unlimited};

#[test]
fn the_name_of_a_version_says_when_it_was_made() {
    for sequence in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
        let name = new_version(sequence);
        assert_eq!((name.len(), made_at(&name)), (32, Some(sequence)));
        assert_eq!(file_name(&name).unwrap(), name);
        assert_ne!(name, new_version(sequence));
    }
    assert_eq!((made_at("null"), made_at(&uuid::Uuid::new_v4().simple().to_string())), (None, None));
}

#[test]
fn the_newest_of_many_versions_is_found_without_reading_them() {
    let root = tempfile::tempdir().unwrap();
    let disk = unlimited(root.path());
    let bucket = bucket(&disk, "demo", &account(), Some(Versioning::Enabled));
    let mut versions: Vec<String> =
        (0..40).map(|_| put(&disk, &bucket, "key").unwrap().version.unwrap()).collect();
    while versions.len() > 36 {
        let (before, latest) = (reads(), versions.pop().unwrap());
        disk.delete(&bucket, "key", Some(&latest)).unwrap();
        assert!(reads() - before < 10, "{} descriptions were read", reads() - before);
        let current = disk.object(&bucket, "key").unwrap().record.version;
        assert_eq!(current.as_ref(), versions.last());
    }
    // Under a delete marker nothing comes back, until it goes.
    let Deletion::Marked(Some(marker)) = disk.delete(&bucket, "key", None).unwrap() else { panic!() };
    let before = reads();
    disk.delete(&bucket, "key", Some(&versions[3])).unwrap();
    assert!(reads() - before < 10 && disk.object(&bucket, "key").is_err());
    disk.delete(&bucket, "key", Some(&marker)).unwrap();
    assert_eq!(disk.object(&bucket, "key").unwrap().record.version.as_ref(), versions.last());
}

/// As versions were named before their names said anything.
fn make_old(disk: &Disk, bucket: &Bucket, key: &str, name: &str) -> String {
    let path = disk.versions_path(bucket, key).join(name);
    let mut object = OpenObject::open(&path).unwrap();
    let old = uuid::Uuid::new_v4().simple().to_string();
    let mut content = (disk.temporary().unwrap(), disk.reserve(bucket, 0).unwrap());
    object.copy_to(content.0.as_file_mut()).unwrap();
    object.record.version = Some(old.clone());
    disk.commit(bucket, content, &object.record, &path.with_file_name(&old)).unwrap();
    disk.remove(bucket, &path).unwrap();
    old
}

#[test]
fn versions_with_names_of_earlier_servers_keep_their_order() {
    let root = tempfile::tempdir().unwrap();
    let disk = unlimited(root.path());
    let bucket = bucket(&disk, "demo", &account(), Some(Versioning::Enabled));
    let mut versions: Vec<String> =
        (0..6).map(|_| put(&disk, &bucket, "key").unwrap().version.unwrap()).collect();
    for index in [0, 2, 4] {
        versions[index] = make_old(&disk, &bucket, "key", &versions[index]);
    }
    while let Some(latest) = versions.pop() {
        // What was changed just now may be shown twice.
        let mut listed = BTreeSet::new();
        disk.each_version(&bucket, |version| {
            listed.insert((version.rank(), version.latest, version.summary.shown().to_owned()));
        })
        .unwrap();
        let listed: Vec<_> = listed.into_iter().collect();
        let names: Vec<&String> = listed.iter().map(|(.., name)| name).collect();
        assert_eq!(names, std::iter::once(&latest).chain(versions.iter().rev()).collect::<Vec<_>>());
        assert!(listed[0].1 && listed[1..].iter().all(|(_, latest, _)| !latest));
        disk.delete(&bucket, "key", Some(&latest)).unwrap();
    }
    assert!(disk.object(&bucket, "key").is_err());
}

#[test]
fn what_is_deleted_brings_back_what_was_before_also_when_the_clock_was_set_back() {
    let root = tempfile::tempdir().unwrap();
    let disk = unlimited(root.path());
    let bucket = bucket(&disk, "demo", &account(), Some(Versioning::Enabled));
    put(&disk, &bucket, "key").unwrap();
    // As it would be had the clock been an hour ahead then.
    let path = disk.object_path(&bucket, "key");
    let mut object = OpenObject::open(&path).unwrap();
    let mut content = (disk.temporary().unwrap(), disk.reserve(&bucket, 0).unwrap());
    object.copy_to(content.0.as_file_mut()).unwrap();
    object.record.sequence += 3_600_000_000_000;
    object.record.version = Some(new_version(object.record.sequence));
    let version = object.record.version.clone();
    disk.commit(&bucket, content, &object.record, &path).unwrap();
    let Deletion::Marked(Some(marker)) = disk.delete(&bucket, "key", None).unwrap() else { panic!() };
    assert!(disk.object(&bucket, "key").is_err());
    disk.delete(&bucket, "key", Some(&marker)).unwrap();
    assert_eq!(disk.object(&bucket, "key").unwrap().record.version, version);
}
