//! A wake that fails on a host leaves what sleeps as it was, whatever it died of
//! before it answered.

use std::sync::atomic::Ordering;

use hearth_api::{MicrovmId, MicrovmState};
use hearth_node::Unreachable;
use hearth_records::Phase;
use hearth_testkit::waiting::{eventually, until};
use hearth_vmm::fake::FakeOperation;
use hearth_vmm::snapshot::sparse_digest;
use hearth_vmm::{Error, ExitReason};

use crate::support::{WAKES, World};

/// A suspended microVM, and the digests of its files.
async fn suspended(world: &World) -> (MicrovmId, Vec<(String, String)>) {
    let id = world.running(Some(WAKES)).await;
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
    let files = world.files(&id);
    assert!(files.len() >= 5, "{files:?}");
    (id, files)
}

/// A guest that runs needs no copy of its disk.
async fn copy_goes(world: &World, id: &MicrovmId) {
    until("the copy of its disk goes", async || !world.snapshots.microvm(id).has_way_back().unwrap()).await;
}

/// Begins a wake whose guest writes to its disk and says nothing.
async fn half_awake(world: &World, id: &MicrovmId) {
    world.silent.store(true, Ordering::SeqCst);
    world.registry.resume(id, None).await.unwrap();
    until("it runs", async || world.vmm.vm(id.as_str()).is_some_and(|vm| vm.is_running())).await;
    std::fs::write(world.snapshots.microvm(id).disk(), "other blocks").unwrap();
}

#[tokio::test]
async fn a_guest_that_dies_before_it_answers_leaves_its_microvm_suspended_as_it_was() {
    let world = World::new().await;
    let (id, before) = suspended(&world).await;
    half_awake(&world, &id).await;
    // As of an agent that met an instruction which this CPU does not have: its kernel
    // panics, and QEMU ends.
    let died = ExitReason::Failed { status: 0, log_tail: "Attempted to kill init!".to_owned() };
    world.vmm.vm(id.as_str()).unwrap().exit(died);
    let record = world.wait_for(&id, MicrovmState::Suspended).await;
    let reason = record.state_reason().unwrap();
    assert!(reason.starts_with("The MicroVM could not be resumed: the virtual machine monitor"), "{reason}");
    assert!(record.suspended_at.is_some());
    assert_eq!(world.files(&id), before, "nothing was consumed and nothing is left");
    world.assert_released(&id);

    world.silent.store(false, Ordering::SeqCst);
    world.registry.ensure_running(&id).await.unwrap();
    assert_eq!(world.record(&id).await.state_reason(), None);
    copy_goes(&world, &id).await;
}

#[tokio::test]
async fn a_service_that_dies_in_a_wake_with_its_guest_finds_the_microvm_as_it_was() {
    let world = World::new().await;
    let (id, before) = suspended(&world).await;
    world.registry.leave().await;
    // Killed after the guest had written to its disk and before it answered; then the
    // host was started again.
    let own = world.snapshots.microvm(&id);
    assert!(own.keep_disk());
    std::fs::write(own.disk(), "other blocks").unwrap();
    world.enter(&id, Phase::Resuming).await;

    // The wake was asked for, so that it is begun again, from what there was.
    let restarted = world.restarted().await;
    world.wait_for(&id, MicrovmState::Running).await;
    let overlay = before.iter().find(|(path, _)| *path == own.disk().display().to_string()).unwrap();
    assert_eq!(sparse_digest(&own.disk()).unwrap(), overlay.1);
    copy_goes(&world, &id).await;
    restarted.terminate(&id, None).await.unwrap();
}

#[tokio::test]
async fn a_wake_that_cannot_happen_here_says_so_and_not_that_the_image_is_to_be_built_again() {
    let world = World::new().await;
    let (id, before) = suspended(&world).await;
    let other = Error::OtherAccelerator {
        taken: "kvm".to_owned(),
        host: "tcg".to_owned(),
        reason: "/dev/kvm cannot be opened".to_owned(),
    };
    world.vmm.fail_next(FakeOperation::Restore, other);
    world.registry.resume(&id, None).await.unwrap();
    let look = async || {
        let record = world.record(&id).await;
        record.state_reason().ok_or(record)
    };
    let reason = eventually("a reason is shown", look).await;
    assert_eq!(world.record(&id).await.state, MicrovmState::Suspended);
    for part in ["The MicroVM could not be resumed", "/dev/kvm cannot be opened", "HEARTH_ACCELERATOR=kvm"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert!(!reason.contains("build the image again"), "{reason}");
    assert_eq!(world.files(&id), before);
    world.vmm.fail_next(FakeOperation::Restore, Error::MissingFeatures { features: "avx2".to_owned() });
    assert_eq!(world.registry.ensure_running(&id).await.unwrap_err(), Unreachable::Failed);
    let reason = world.record(&id).await.state_reason().unwrap();
    assert!(reason.contains("avx2"), "{reason}");
}

#[tokio::test]
async fn one_slow_connect_to_the_agent_does_not_decide_a_launch_or_a_wake() {
    let world = World::new().await;
    world.unheard.store(3, Ordering::SeqCst);
    let id = world.running(Some(WAKES)).await;
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
    world.unheard.store(3, Ordering::SeqCst);
    world.registry.ensure_running(&id).await.unwrap();
}

#[tokio::test]
async fn what_ran_under_another_accelerator_goes_on_and_sleeps_until_that_is_back() {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    world.registry.leave().await;
    world.vmm.use_accelerator("another");
    let restarted = world.restarted().await;
    restarted.ensure_running(&id).await.unwrap();
    assert!(world.vmm.vm(id.as_str()).unwrap().is_running(), "it goes on under its own");
    assert_eq!(world.record(&id).await.state_reason(), None);

    restarted.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
    let before = world.files(&id);
    assert_eq!(restarted.ensure_running(&id).await.unwrap_err(), Unreachable::Failed);
    let record = world.record(&id).await;
    assert_eq!(record.state, MicrovmState::Suspended);
    let reason = record.state_reason().unwrap();
    for part in
        ["could not be resumed", "taken under fake", "runs guests under another", "HEARTH_ACCELERATOR=fake"]
    {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(world.files(&id), before, "nothing was touched");

    world.vmm.fail_next(FakeOperation::Restore, Error::NoKvm(std::io::ErrorKind::NotFound.into()));
    assert_eq!(restarted.ensure_running(&id).await.unwrap_err(), Unreachable::Failed);
    let reason = world.record(&id).await.state_reason().unwrap();
    assert!(reason.contains("/dev/kvm cannot be opened"), "{reason}");
    assert_eq!(world.files(&id), before, "nor now");

    world.vmm.use_accelerator("fake");
    restarted.ensure_running(&id).await.unwrap();
    assert_eq!(world.record(&id).await.state_reason(), None);
}
