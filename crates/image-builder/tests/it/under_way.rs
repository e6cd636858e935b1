//! Builds that are under way: what they hold up, what is said of them, and what is left when their
//! image is deleted.

use hearth_records::Images as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use hearth_api::BuildState;
use hearth_testkit::waiting::until;
use hearth_vmm::ExitReason;

use crate::registry::SlowRegistry;
use crate::world::World;

const ONE: &str = "111111111111";
const OTHER: &str = "222222222222";
const WAITS: &str = "Waiting for other builds to end";

/// Entries of a directory; none if there is no such directory.
fn entries(directory: &Path) -> Vec<String> {
    let found = std::fs::read_dir(directory).into_iter().flatten().flatten();
    found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_registry_holds_up_no_other_pull_and_no_build_and_the_deletion_of_the_image_ends_it() {
    let registry = SlowRegistry::start().await;
    let Some(world) = World::new(0x4ffc_0000, Some(registry.address), |_| ()).await else { return };
    let slow = world.build(ONE, "slow", "FROM slow.test/first/app:1\n").await;
    until("the first pull hangs", async || registry.waiting("first/app") == 1).await;

    // No lock over all that is pulled, and the first has no place among the builds, of which there
    // is one.
    let second = world.build(ONE, "second", "FROM slow.test/second/app:1\n").await;
    until("the second image is asked for", async || registry.waiting("second/app") == 1).await;
    let builds = world.build(OTHER, "builds", "FROM prepared:1\n").await;
    until("the third image builds", async || world.runs(&builds)).await;
    assert_eq!((registry.waiting("first/app"), world.networks.load(Ordering::SeqCst)), (1, 3));

    world.builder.delete(&slow.arn, None).await.unwrap();
    until("the image is gone", async || world.store.image(&slow.arn).await.unwrap().is_none()).await;
    until("who pulled is gone", async || registry.waiting("first/app") == 0).await;
    until("its network is free", async || world.networks.load(Ordering::SeqCst) == 2).await;
    assert!(!world.scratch(&slow).exists() && !world.version_directory(&slow.arn).exists());
    assert_eq!(entries(&world.directory.path().join("base-images").join(ONE)).len(), 1, "the second pull's");
    assert!(registry.waiting("second/app") == 1 && world.runs(&builds), "nobody else's work has ended");
    assert_eq!(world.record(&second).await.state, BuildState::Pending);
    world.builder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_is_told_while_others_build_and_who_waits_for_them_is_told_so() {
    let Some(world) = World::new(0x4ffb_0000, None, |_| ()).await else { return };
    let first = world.build(ONE, "first", "FROM prepared:1\n").await;
    until("the first builds", async || world.runs(&first)).await;

    let wrong = world.build(OTHER, "wrong", "FROM prepared:1\nRUN <<EOF\nnever ends\n").await;
    let failed = async || world.record(&wrong).await.state == BuildState::Failed;
    until("the mistake is told", failed).await;
    let reason = world.record(&wrong).await.state_reason.unwrap();
    assert!(reason.contains("line 2") || reason.contains("Line 2"), "{reason}");

    let waiting = world.build(OTHER, "waiting", "FROM prepared:1\n").await;
    let told = async || world.log(&waiting.arn).await.iter().any(|line| line == WAITS);
    until("who waits is told", told).await;
    assert_eq!(world.record(&waiting).await.state, BuildState::Pending);
    assert!(!world.runs(&waiting) && world.runs(&first));
    for arn in [&first.arn, &wrong.arn] {
        assert!(!world.log(arn).await.iter().any(|line| line == WAITS), "{arn}");
    }

    world.builder.delete(&first.arn, None).await.unwrap();
    until("its turn has come", async || world.runs(&waiting)).await;
    world.builder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_finds_no_more_room_when_its_turn_comes_does_not_begin() {
    let Some(world) = World::new(0x4ff9_0000, None, |_| ()).await else { return };
    let first = world.build(ONE, "first", "FROM prepared:1\n").await;
    until("the first builds", async || world.runs(&first)).await;
    let second = world.build(ONE, "second", "FROM prepared:1\n").await;
    let told = async || world.log(&second.arn).await.iter().any(|line| line == WAITS);
    until("the second waits", told).await;

    // As if the first had filled its layer cache; its deletion would take that away.
    let kept = world.directory.path().join("build-cache").join(ONE).join("kept");
    std::fs::write(&kept, vec![1; 64 << 20]).unwrap();
    world.vmm.vm(&format!("build-{}", first.build)).unwrap().exit(ExitReason::Stopped);
    let failed = async || world.record(&second).await.state == BuildState::Failed;
    until("the second is refused", failed).await;
    let reason = world.record(&second).await.state_reason.unwrap();
    assert!(reason.starts_with("DISK_STORAGE_FULL: The images of this account"), "{reason}");
    assert!(world.log(&second.arn).await.contains(&reason));
    world.builder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_build_begins_on_a_disk_with_less_than_builds_leave() {
    let Some(world) = World::new(0x4ff8_0000, None, |config| config.free_bytes = u64::MAX).await else {
        return;
    };
    let refused = world.build(ONE, "app", "FROM prepared:1\n").await;
    let failed = async || world.record(&refused).await.state == BuildState::Failed;
    until("the build is refused", failed).await;
    let reason = world.record(&refused).await.state_reason.unwrap();
    assert!(reason.starts_with("DISK_STORAGE_FULL: The host has no room for another build: "), "{reason}");
    assert!(world.vmm.names().is_empty());
    world.builder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layers_of_a_deleted_image_are_not_there_for_the_next_of_its_name() {
    let Some(world) = World::new(0x4ffa_0000, None, |config| config.concurrent_builds = 2).await else {
        return;
    };
    let theirs = world.build(OTHER, "app", "FROM prepared:1\n").await;
    let old = world.build(ONE, "app", "FROM prepared:1\n").await;
    until("both build", async || world.runs(&theirs) && world.runs(&old)).await;
    assert!(theirs.cache.exists() && old.cache.exists());

    world.builder.delete(&old.arn, None).await.unwrap();
    until("the image is gone", async || world.store.image(&old.arn).await.unwrap().is_none()).await;
    let caches = world.directory.path().join("build-cache");
    until("its layers are gone", async || entries(&caches.join(ONE)).is_empty()).await;
    assert!(theirs.cache.exists(), "another image's layers stay");

    let new = world.build(ONE, "app", "FROM prepared:1\n").await;
    until("the new one builds", async || world.runs(&new)).await;
    assert_ne!(new.cache, old.cache);
    assert_eq!(entries(&caches.join(ONE)), [new.cache.file_name().unwrap().to_str().unwrap()]);
    world.builder.shutdown().await;
}
