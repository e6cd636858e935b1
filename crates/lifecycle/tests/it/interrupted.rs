//! A service and its guests that end together, by a power failure or a crash of the host, at each
//! point of a resume and of a suspend: what was suspended is suspended again, as it was; what ran
//! is lost, and says so.

use hearth_api::{MicrovmId, MicrovmState};
use hearth_records::{Phase, Reason};
use hearth_snapshots::MicrovmFiles;
use hearth_testkit::waiting::until;
use hearth_vmm::Error;
use hearth_vmm::ExitReason;
use hearth_vmm::fake::FakeOperation;
use hearth_vmm::snapshot::sparse_digest;

use crate::support::{WAKES, World};

async fn suspend(world: &World, id: &MicrovmId) {
    world.registry.suspend(id, None).await.unwrap();
    world.wait_for(id, MicrovmState::Suspended).await;
}

/// A suspended microVM whose service has gone, and the digests of its files.
async fn suspended(world: &World) -> (MicrovmId, Vec<(String, String)>) {
    let id = world.running(Some(WAKES)).await;
    suspend(world, &id).await;
    world.registry.leave().await;
    let files = world.files(&id);
    assert!(files.len() >= 5, "{files:?}");
    (id, files)
}

/// The guest ran, and its VMM went with the service.
async fn gone_while_running(world: &World, id: &MicrovmId) {
    world.registry.leave().await;
    world.vmm.vm(id.as_str()).unwrap().exit(ExitReason::Failed { status: 137, log_tail: String::new() });
}

/// Makes of the files of a suspended microVM what they are when a resume is
/// interrupted at some point.
type Interruption = fn(&MicrovmFiles);

fn copied(own: &MicrovmFiles) {
    assert!(own.keep_disk());
}

fn guest_has_written(own: &MicrovmFiles) {
    copied(own);
    std::fs::write(own.disk(), "other blocks").unwrap();
}

/// Each with the point up to which it had come.
const RESUMES: [(&str, Interruption); 3] = [
    ("nothing was done", |_| ()),
    ("the disk was copied", copied),
    ("the guest had written", guest_has_written),
];

#[tokio::test]
async fn a_resume_that_ended_with_the_host_leaves_the_microvm_suspended_as_it_was() {
    for (point, interrupt) in RESUMES {
        let world = World::new().await;
        let (id, before) = suspended(&world).await;
        interrupt(&world.snapshots.microvm(&id));
        // That the resume had begun is not synced: the record says what was acknowledged.
        let restarted = world.restarted().await;
        let record = world.record(&id).await;
        assert_eq!(record.state, MicrovmState::Suspended, "{point}: {:?}", record.state_reason());
        assert!(record.suspended_at.is_some(), "{point}");
        assert_eq!(world.files(&id), before, "{point}");
        world.assert_released(&id);
        restarted.ensure_running(&id).await.unwrap();
        assert_eq!(world.record(&id).await.state_reason(), None, "{point}");
    }
}

#[tokio::test]
async fn a_resume_that_ended_with_the_service_and_its_guest_is_begun_again() {
    for (point, interrupt) in RESUMES {
        let world = World::new().await;
        let (id, before) = suspended(&world).await;
        let own = world.snapshots.microvm(&id);
        interrupt(&own);
        world.enter(&id, Phase::Resuming).await;
        let restarted = world.restarted().await;
        world.wait_for(&id, MicrovmState::Running).await;
        let overlay = before.iter().find(|(path, _)| *path == own.disk().display().to_string()).unwrap();
        assert_eq!(sparse_digest(&own.disk()).unwrap(), overlay.1, "{point}");
        restarted.suspend(&id, None).await.unwrap();
        world.wait_for(&id, MicrovmState::Suspended).await;
        assert!(!own.has_way_back().unwrap(), "{point}: a copy is of the snapshot that there is");
    }
}

#[tokio::test]
async fn a_copy_that_could_not_be_put_back_is_what_the_next_resume_begins_with() {
    let world = World::new().await;
    let (id, before) = suspended(&world).await;
    let own = world.snapshots.microvm(&id);
    let restarted = world.restarted().await;
    guest_has_written(&own);
    restarted.ensure_running(&id).await.unwrap();
    let overlay = before.iter().find(|(path, _)| *path == own.disk().display().to_string()).unwrap();
    assert_eq!(sparse_digest(&own.disk()).unwrap(), overlay.1);
}

#[tokio::test]
async fn a_resume_can_be_taken_back_until_its_hook_has_answered() {
    let world = World::hooked(&["resume"], 60).await;
    let id = world.running(Some(WAKES)).await;
    suspend(&world, &id).await;
    world.hooks.lock().unwrap().answers.insert("resume", None);
    world.registry.resume(&id, None).await.unwrap();
    until("the hook is called", async || !world.hooks.lock().unwrap().called.is_empty()).await;
    let own = world.snapshots.microvm(&id);
    let record = world.record(&id).await;
    assert!(
        own.has_way_back().unwrap() && record.phase == Phase::ResumeHook && record.spent == 0,
        "{record:?}"
    );
}

/// A microVM that runs, after so many suspends.
async fn woken(suspends: usize) -> (World, MicrovmId) {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    for _ in 0..suspends {
        suspend(&world, &id).await;
        world.registry.ensure_running(&id).await.unwrap();
    }
    (world, id)
}

#[tokio::test]
async fn a_suspend_whose_snapshot_was_not_whole_is_lost_with_the_host_and_says_so() {
    for suspends_before in [0, 1] {
        for phase in [Phase::Suspending, Phase::Running, Phase::Suspended] {
            let (world, id) = woken(suspends_before).await;
            gone_while_running(&world, &id).await;
            let own = world.snapshots.microvm(&id);
            let draft = own.directory().join("draft");
            std::fs::create_dir(&draft).unwrap();
            std::fs::write(draft.join("memory.0009.layer"), "half").unwrap();
            world.enter(&id, phase).await;
            let _restarted = world.restarted().await;
            let ended = world.wait_for(&id, MicrovmState::Terminated).await;
            let snapshot = "The MicroVM could not be resumed: its snapshot is not there any more.";
            let lost = Reason::VmmLost.to_string();
            let sentence = if phase == Phase::Suspended { snapshot } else { &*lost };
            assert_eq!(ended.state_reason().as_deref(), Some(sentence), "{phase:?}");
            assert!(!own.directory().exists());
        }
    }
}

#[tokio::test]
async fn a_suspend_whose_snapshot_was_whole_is_not_lost() {
    for suspends_before in [0, 1] {
        // The last that is synced before may be a RUNNING.
        for phase in [Phase::Suspending, Phase::Running, Phase::Suspended] {
            let (world, id) = woken(suspends_before).await;
            assert_eq!(world.record(&id).await.spent, suspends_before as u32);
            suspend(&world, &id).await;
            world.registry.leave().await;
            world.enter(&id, phase).await;
            let restarted = world.restarted().await;
            assert_eq!(world.record(&id).await.state, MicrovmState::Suspended, "{phase:?}");
            restarted.ensure_running(&id).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_suspend_that_failed_after_its_snapshot_was_whole_does_not_fall_back_to_that() {
    let (world, id) = woken(1).await;
    let full = Error::NoSpace { path: "/full".into() };
    world.vmm.fail_next(FakeOperation::SnapshotWritten, full);
    world.registry.suspend(&id, None).await.unwrap();
    let record = world.wait_for(&id, MicrovmState::Running).await;
    assert!(record.state_reason().unwrap().contains("keeps running"), "{record:?}");
    assert_eq!(record.spent, 1, "the first; the second has never been one");
    gone_while_running(&world, &id).await;
    let _restarted = world.restarted().await;
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    assert_eq!(ended.reason, Some(Reason::VmmLost));
}

#[tokio::test]
async fn a_resume_without_a_copy_of_the_disk_says_so_before_the_guest_runs() {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    suspend(&world, &id).await;
    let own = world.snapshots.microvm(&id);
    // Where the copy would be made.
    let snapshot = own.snapshot().unwrap().unwrap();
    std::fs::create_dir(snapshot.directory().join("disk.new")).unwrap();
    drop(snapshot);
    world.silent.store(true, std::sync::atomic::Ordering::SeqCst);
    world.registry.resume(&id, None).await.unwrap();
    until("it runs", async || world.vmm.vm(id.as_str()).is_some_and(|vm| vm.is_running())).await;
    let record = world.record(&id).await;
    assert_eq!((record.phase, record.spent), (Phase::Resuming, 1));
    // The service and its guest end here.
    world.enter(&id, Phase::Resuming).await;
    world.vmm.vm(id.as_str()).unwrap().exit(ExitReason::Stopped);
    let _restarted = world.restarted().await;
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    assert_eq!(ended.reason, Some(Reason::VmmLost));
}
