//! What is read of the disk, and what not.

use crate::bucket_policy::PARSED;
use crate::object_file::{Tags, reads};
use crate::setting_files::Setting;
use crate::testing::{account, bucket, other_account, unlimited};

const POLICY: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*",
    "Action":"s3:GetObject","Resource":"arn:aws:s3:::demo/*"}}"#;

#[test]
fn nobody_reads_settings_of_buckets_that_were_not_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let disk = unlimited(root.path());
    for number in 0..10 {
        let large = bucket(&disk, &format!("other-{number}"), &other_account(), None);
        disk.set(&large, Setting::Cors, Some(&"c".repeat(60_000))).unwrap();
    }
    let before = reads();
    assert_eq!((disk.index.of(&account()).len(), disk.index.count_of(&other_account())), (0, 10));
    disk.make("mine", &account(), Tags::new()).unwrap();
    assert_eq!(disk.index.of(&account()).into_keys().collect::<Vec<_>>(), ["mine"]);
    assert_eq!(reads(), before);
    disk.find("mine").unwrap();
    assert!(reads() - before <= 2, "its description and its CORS rules");
    disk.unmake(&disk.find("mine").unwrap()).unwrap();
    assert_eq!(disk.index.by_account().len(), 1);
}

#[test]
fn a_bucket_policy_is_parsed_once_for_many_requests() {
    let root = tempfile::tempdir().unwrap();
    let disk = unlimited(root.path());
    let found = bucket(&disk, "demo", &account(), None);
    let parsed = || {
        let before = (PARSED.get(), reads());
        let bucket = disk.find("demo").unwrap();
        assert!(bucket.policy.as_ref().unwrap().is_some());
        for _ in 0..100 {
            disk.find("demo").unwrap();
            disk.hold(&bucket).unwrap();
        }
        (PARSED.get() - before.0, reads() - before.1)
    };
    for number in 0..2 {
        disk.change_bucket(&found, |record| record.policy = Some(format!("{POLICY}{}", " ".repeat(number))))
            .unwrap();
        assert_eq!(parsed(), (1, 2), "the description and the CORS rules");
    }
}

#[test]
fn descriptions_in_memory_have_a_limit() {
    let root = tempfile::tempdir().unwrap();
    let disk = unlimited(root.path());
    let mut longest = 0;
    for number in 0..20 {
        let name = format!("bucket-{number}");
        let found = bucket(&disk, &name, &account(), None);
        disk.change_bucket(&found, |record| record.policy = Some(" ".repeat(20 * 1024))).unwrap();
        longest = longest.max(disk.find(&name).unwrap().weight());
        let all = disk.index.read();
        assert_eq!(all.loaded_bytes, all.loaded.values().map(|bucket| bucket.weight()).sum::<usize>());
        assert!(all.loaded_bytes <= super::MAXIMUM_LOADED_BYTES);
    }
    assert!(longest * 20 > super::MAXIMUM_LOADED_BYTES);
}
