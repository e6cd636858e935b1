//! How often a bucket is read for its rules, and who waits for whom.

use s3s::dto::BucketLifecycleConfiguration;

use super::*;
use crate::bucket::{Bucket, Versioning};
use crate::object_file::reads;
use crate::setting_files::Setting;
use crate::stored;
use crate::testing::{account, bucket, other_account, put, unlimited};

#[test]
fn days_end_at_the_next_midnight() {
    let since: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
    for (now, over) in
        [("2026-01-02T10:00:00Z", false), ("2026-01-02T23:59:59Z", false), ("2026-01-03T00:00:00Z", true)]
    {
        let before = over_since(1, now.parse().unwrap()).unwrap();
        assert_eq!(since.as_millisecond() < before, over, "{now}");
    }
    assert_eq!(over_since(i32::MAX, since), None, "more than the calendar has");
}

fn set_rules(disk: &Disk, bucket: &Bucket, rules: &str) {
    let xml = format!("<Setting>{rules}</Setting>");
    stored::read::<BucketLifecycleConfiguration>(&xml).unwrap();
    disk.set(bucket, Setting::Lifecycle, Some(&xml)).unwrap();
}

fn rule(prefix: &str, action: &str) -> String {
    format!("<Rule><Filter><Prefix>{prefix}</Prefix></Filter><Status>Enabled</Status>{action}</Rule>")
}

fn objects(disk: &Disk, bucket: &Bucket) -> usize {
    let mut count = 0;
    disk.each_object(bucket, |_| count += 1).unwrap();
    count
}

#[test]
fn a_bucket_is_read_once_for_all_of_its_rules() {
    let root = tempfile::tempdir().unwrap();
    let disk = unlimited(root.path());
    let bucket = bucket(&disk, "demo", &account(), Some(Versioning::Enabled));
    for number in 0..30 {
        put(&disk, &bucket, &format!("key-{}", number % 15)).unwrap();
    }
    let never = "<Expiration><Days>2000000</Days></Expiration>\
        <NoncurrentVersionExpiration><NoncurrentDays>2000000</NoncurrentDays></NoncurrentVersionExpiration>";
    let rules: String = (0..500).map(|number| rule(&"k".repeat(number % 2), never)).collect();
    set_rules(&disk, &bucket, &rules);
    let before = reads();
    for mut turn in turns(&disk) {
        while turn.take(&disk, Timestamp::now(), 10) {}
    }
    let read = reads() - before;
    assert!((15..60).contains(&read), "{read} descriptions were read of 15 objects with 30 versions");
}

#[test]
fn a_large_bucket_lets_others_have_their_turn() {
    let root = tempfile::tempdir().unwrap();
    let disk = unlimited(root.path());
    let large = bucket(&disk, "a-large-one", &account(), None);
    let small = bucket(&disk, "small", &other_account(), None);
    let expire = rule("", "<Expiration><Days>1</Days></Expiration>");
    for (bucket, count) in [(&large, 50), (&small, 1)] {
        for number in 0..count {
            put(&disk, bucket, &number.to_string()).unwrap();
        }
        set_rules(&disk, bucket, &expire);
    }
    let later = Timestamp::now() + jiff::SignedDuration::from_hours(72);
    let mut turns = turns(&disk);
    for _ in 0..4 {
        let mut turn = turns.pop_front().unwrap();
        if turn.take(&disk, later, 10) {
            turns.push_back(turn);
        }
    }
    assert_eq!(objects(&disk, &small), 0);
    assert!((20..50).contains(&objects(&disk, &large)), "{}", objects(&disk, &large));
    while let Some(mut turn) = turns.pop_front() {
        if turn.take(&disk, later, 10) {
            turns.push_back(turn);
        }
    }
    assert_eq!(objects(&disk, &large), 0);
}

#[test]
fn former_versions_go_by_age_number_and_filter() {
    let root = tempfile::tempdir().unwrap();
    let disk = unlimited(root.path());
    let later = Timestamp::now() + jiff::SignedDuration::from_hours(72);
    let day = "<NoncurrentDays>1</NoncurrentDays>";
    for (number, (action, left)) in [
        (format!("<NoncurrentVersionExpiration>{day}</NoncurrentVersionExpiration>"), 1),
        (
            format!(
                "<NoncurrentVersionExpiration><NewerNoncurrentVersions>2</NewerNoncurrentVersions>{day}\
                 </NoncurrentVersionExpiration>"
            ),
            3,
        ),
        (
            "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>".to_owned(),
            5,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        for deleted in [false, true] {
            let name = format!("demo-{number}-{deleted}");
            let bucket = bucket(&disk, &name, &account(), Some(Versioning::Enabled));
            for _ in 0..5 - usize::from(deleted) {
                put(&disk, &bucket, "key").unwrap();
            }
            if deleted {
                disk.delete(&bucket, "key", None).unwrap();
            }
            set_rules(&disk, &bucket, &rule("k", &action));
            let mut sweep = Sweep::begin(&disk, &name, later).unwrap().unwrap();
            while sweep.step(&disk, 1).unwrap() {}
            let mut versions = std::collections::BTreeSet::new();
            disk.each_version(&bucket, |it| versions.extend([it.summary.shown().to_owned()])).unwrap();
            assert_eq!(versions.len(), left, "{name}");
        }
    }
    // A marker that hides nothing any more.
    let name = "demo-0-true";
    set_rules(
        &disk,
        &disk.find(name).unwrap(),
        &rule("", "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"),
    );
    while Sweep::begin(&disk, name, later).unwrap().unwrap().step(&disk, 100).unwrap() {}
    disk.unmake(&disk.find(name).unwrap()).unwrap();
}
