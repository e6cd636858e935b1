//! What a listing shows of objects that are changed meanwhile.

use super::*;
use crate::bucket::Versioning;
use crate::listing::{Gathering, Query};
use crate::testing::{account, bucket, put, unlimited};
use crate::versions::Deletion;

/// Keys and versions of a listing during which `change` happens, once, and which are the latest.
fn listed(disk: &Disk, bucket: &Bucket, mut change: impl FnMut()) -> Vec<(String, String, bool)> {
    let query = Query { prefix: "", delimiter: None, after: "", after_version: None, limit: 10 };
    let (mut gathering, mut done) = (Gathering::new(query), false);
    disk.each_version(bucket, |version| {
        gathering.add(version);
        if !std::mem::replace(&mut done, true) {
            change();
        }
    })
    .unwrap();
    let found = gathering.page().objects.into_iter();
    found.map(|it| (it.summary.key.clone(), it.summary.shown().to_owned(), it.latest)).collect()
}

#[test]
fn a_version_that_is_deleted_meanwhile_is_listed_once() {
    let root = tempfile::tempdir().unwrap();
    let disk = unlimited(root.path());
    let bucket = bucket(&disk, "demo", &account(), Some(Versioning::Enabled));
    let version = put(&disk, &bucket, "key").unwrap().version.unwrap();
    let mut marker = None;
    let found = listed(&disk, &bucket, || marker = Some(disk.delete(&bucket, "key", None).unwrap()));
    let Some(Deletion::Marked(Some(marker))) = marker else { panic!("{marker:?}") };
    let key = "key".to_owned();
    assert_eq!(found, [(key.clone(), marker, true), (key, version, false)]);
}

#[test]
fn a_version_that_is_brought_back_meanwhile_is_listed() {
    for others in 1..20 {
        let root = tempfile::tempdir().unwrap();
        let disk = unlimited(root.path());
        let bucket = bucket(&disk, "demo", &account(), Some(Versioning::Enabled));
        let version = put(&disk, &bucket, "key").unwrap().version.unwrap();
        let Deletion::Marked(Some(marker)) = disk.delete(&bucket, "key", None).unwrap() else { panic!() };
        for other in 0..others {
            put(&disk, &bucket, &format!("other-{other}")).unwrap();
        }
        let found = listed(&disk, &bucket, || drop(disk.delete(&bucket, "key", Some(&marker)).unwrap()));
        assert!(found.contains(&("key".to_owned(), version, true)), "{others}: {found:?}");
    }
}
