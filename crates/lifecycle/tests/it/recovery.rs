//! What a later service makes of what a former one has left: each row of the table
//! in docs/lifecycle.md.
//!
//! The former registry stays in the same process, but its successor only believes the database,
//! the files and the VMM.

use hearth_api::{MicrovmId, MicrovmState, Timestamp};
use hearth_node::Node as _;
use hearth_records::{MicrovmRecord, Microvms as _, Phase, Reason};
use hearth_vmm::fake::FakeOperation;
use hearth_vmm::{Error, ExitReason};

use crate::support::{WAKES, World};

async fn suspended(world: &World) -> MicrovmId {
    let id = world.running(Some(WAKES)).await;
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
    id
}

/// How often this was asked of the microVM's VMs.
fn calls(world: &World, id: &MicrovmId, operation: FakeOperation) -> usize {
    world.vmm.calls().iter().filter(|(name, call)| name == id.as_str() && *call == operation).count()
}

fn end_vm(world: &World, id: &MicrovmId) {
    world.vmm.vm(id.as_str()).unwrap().exit(ExitReason::Failed { status: 137, log_tail: String::new() });
}

#[tokio::test]
async fn a_running_microvm_goes_on() {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    let before = world.record(&id).await;
    world.registry.leave().await;
    assert_eq!(world.record(&id).await, before, "nothing happened to it");

    let restarted = world.restarted().await;
    let claimed = MicrovmRecord {
        generation: before.generation + 1,
        owner: before.owner.succeeded_by(before.owner.node.clone()),
        ..before
    };
    assert_eq!(world.record(&id).await, claimed, "only the owner is another process");
    restarted.ensure_running(&id).await.unwrap();
    assert_eq!(calls(&world, &id, FakeOperation::Restore), 1, "it is the same guest");
    // Everything can be done with it as before.
    restarted.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
    world.assert_released(&id);
    restarted.ensure_running(&id).await.unwrap();
    restarted.terminate(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Terminated).await;
    world.assert_released(&id);
}

#[tokio::test]
async fn a_paused_guest_of_a_running_microvm_is_continued() {
    let world = World::new().await;
    let id = world.running(None).await;
    world.registry.leave().await;
    // As if the service had been killed after a failed suspend, before the guest ran again.
    hearth_vmm::Vm::pause(&*world.vmm.vm(id.as_str()).unwrap()).await.unwrap();
    world.restarted().await.ensure_running(&id).await.unwrap();
    assert!(world.vmm.vm(id.as_str()).unwrap().is_running());
}

#[tokio::test]
async fn a_microvm_whose_vmm_has_gone_ends_and_says_why() {
    let world = World::new().await;
    let id = world.running(None).await;
    world.registry.leave().await;
    end_vm(&world, &id);
    let _restarted = world.restarted().await;
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    assert_eq!(ended.state_reason().as_deref(), Some(&*Reason::VmmLost.to_string()));
    assert!(!world.snapshots.microvm(&id).directory().exists());
}

#[tokio::test]
async fn what_cannot_be_taken_over_ends_and_says_why() {
    let world = World::new().await;
    let id = world.running(None).await;
    world.registry.leave().await;
    let (path, found, known) = ("/run/vmm.json".into(), 2, 1);
    world.vmm.fail_next(FakeOperation::Adopt, Error::OtherFormat { path, found, known });
    let _restarted = world.restarted().await;
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    let reason = ended.state_reason().unwrap();
    assert!(reason.starts_with("The MicroVM could not be taken over by the service: "), "{reason}");
    assert!(reason.contains("has format 2"), "{reason}");
}

#[tokio::test]
async fn a_suspend_is_finished() {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    world.registry.leave().await;
    world.enter(&id, Phase::Suspending).await;
    let restarted = world.restarted().await;
    world.wait_for(&id, MicrovmState::Suspended).await;
    world.assert_released(&id);
    restarted.ensure_running(&id).await.unwrap();
}

#[tokio::test]
async fn a_suspend_that_was_over_but_for_its_record_is_recorded() {
    let world = World::new().await;
    let id = suspended(&world).await;
    world.enter(&id, Phase::Suspending).await;
    let restarted = world.restarted().await;
    let record = world.record(&id).await;
    assert_eq!(record.state, MicrovmState::Suspended);
    assert!(record.suspended_at.is_some());
    restarted.ensure_running(&id).await.unwrap();
}

#[tokio::test]
async fn a_resume_is_finished_whether_its_guest_ran_or_not() {
    let world = World::new().await;
    let id = suspended(&world).await;
    world.registry.leave().await;
    // Nothing was there yet: it is resumed from its snapshot.
    world.enter(&id, Phase::Resuming).await;
    let restarted = world.restarted().await;
    world.wait_for(&id, MicrovmState::Running).await;
    assert_eq!(calls(&world, &id, FakeOperation::Restore), 2);
    // The guest ran, but nobody had told it so, or nobody had recorded that.
    restarted.leave().await;
    world.enter(&id, Phase::Resuming).await;
    let restarted = world.restarted().await;
    world.wait_for(&id, MicrovmState::Running).await;
    assert_eq!(calls(&world, &id, FakeOperation::Restore), 2, "its guest went on");
    restarted.ensure_running(&id).await.unwrap();
}

#[tokio::test]
async fn a_launch_is_begun_again_or_finished() {
    let world = World::new().await;
    let id = world.recorded(None).await;
    // Half of a launch: a disk that nobody has written to.
    let own = world.snapshots.microvm(&id);
    std::fs::create_dir_all(own.directory()).unwrap();
    std::fs::write(own.disk(), "half").unwrap();
    let restarted = world.restarted().await;
    world.wait_for(&id, MicrovmState::Running).await;
    assert_eq!(calls(&world, &id, FakeOperation::Restore), 1);

    restarted.leave().await;
    world.enter(&id, Phase::Launching).await;
    let restarted = world.restarted().await;
    world.wait_for(&id, MicrovmState::Running).await;
    assert_eq!(calls(&world, &id, FakeOperation::Restore), 1, "its guest went on");
    restarted.ensure_running(&id).await.unwrap();
}

/// Names and bodies of the hooks that were called.
fn hooks_called(world: &World) -> Vec<(String, String)> {
    world.hooks.lock().unwrap().called.clone()
}

#[tokio::test]
async fn the_run_hook_of_an_interrupted_launch_gets_its_payload() {
    let world = World::hooked(&["run"], 3).await;
    let id = world.recorded_with_payload("told once").await;
    let restarted = world.restarted().await;
    world.wait_for(&id, MicrovmState::Running).await;
    let called = hooks_called(&world);
    assert_eq!(called.len(), 1);
    assert!(called[0].1.contains("told once"), "{called:?}");
    assert_eq!(world.store.payload(&id).await.unwrap(), None, "it is needed no more");
    restarted.terminate(&id, None).await.unwrap();
}

#[tokio::test]
async fn a_clone_that_was_killed_before_its_run_hook_hears_it_once() {
    let world = World::hooked(&["run"], 3).await;
    let id = world.launch_with_payload("told").await;
    world.wait_for(&id, MicrovmState::Running).await;
    world.registry.leave().await;
    world.hooks.lock().unwrap().called.clear();
    world.enter(&id, Phase::Launching).await;
    let _restarted = world.restarted().await;
    world.wait_for(&id, MicrovmState::Running).await;
    assert_eq!(hooks_called(&world).len(), 1);
    assert_eq!(calls(&world, &id, FakeOperation::Restore), 1, "its guest went on");
}

#[tokio::test]
async fn a_clone_that_may_have_heard_half_of_its_run_hook_is_thrown_away() {
    let world = World::hooked(&["run"], 3).await;
    let id = world.launch_with_payload("told twice").await;
    world.wait_for(&id, MicrovmState::Running).await;
    world.registry.leave().await;
    // As it was while the hook was under way.
    let sealed = world.registry.seal_payload(&id, "told twice").unwrap();
    world.store.put_payload(&id, &sealed).await.unwrap();
    world.enter(&id, Phase::RunHook).await;
    let _restarted = world.restarted().await;
    world.wait_for(&id, MicrovmState::Running).await;
    let called = hooks_called(&world);
    assert_eq!(called.len(), 2);
    assert_eq!(called[0], called[1]);
    assert_eq!(calls(&world, &id, FakeOperation::Restore), 2, "another clone");
}

#[tokio::test]
async fn hooks_of_interrupted_suspends_and_resumes_are_called_again() {
    let world = World::hooked(&["suspend", "resume"], 3).await;
    let id = world.running(Some(WAKES)).await;
    world.registry.leave().await;
    world.enter(&id, Phase::SuspendHook).await;
    let restarted = world.restarted().await;
    world.wait_for(&id, MicrovmState::Suspended).await;
    restarted.leave().await;
    world.enter(&id, Phase::ResumeHook).await;
    let _restarted = world.restarted().await;
    world.wait_for(&id, MicrovmState::Running).await;
    let names: Vec<_> = hooks_called(&world).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["suspend", "resume"]);
}

#[tokio::test]
async fn a_termination_is_finished_with_the_reason_it_had() {
    let world = World::new().await;
    for (reason, over, expected) in [
        (
            Some(Reason::VmmEnded { how: "guest powered itself off".to_owned() }),
            false,
            "The guest powered itself off.",
        ),
        (None, false, "Success."),
        (None, true, "MicroVM exceeded maximum lifetime."),
    ] {
        let id = if over { world.recorded_long_ago().await } else { world.running(None).await };
        world.registry.leave().await;
        let rewrite = |record: &mut MicrovmRecord| {
            *record = MicrovmRecord { reason, ..record.entering(Phase::Terminating) };
        };
        world.rewrite(&id, rewrite).await;
        let _restarted = world.restarted().await;
        let ended = world.wait_for(&id, MicrovmState::Terminated).await;
        assert_eq!(ended.state_reason().as_deref(), Some(expected));
        assert!(ended.terminated_at.is_some_and(|at| at <= Timestamp::now()));
        assert!(world.vmm.vm(id.as_str()).is_none(), "a VM is left");
        assert!(!world.snapshots.microvm(&id).directory().exists());
    }
}

#[tokio::test]
async fn leaving_waits_for_the_step_that_has_begun() {
    let world = World::new().await;
    world.vmm.delay(FakeOperation::Restore, std::time::Duration::from_millis(300));
    let id = world.launch(Some(WAKES)).await;
    world.registry.leave().await;
    assert_eq!(world.record(&id).await.state, MicrovmState::Running);
    world.restarted().await.ensure_running(&id).await.unwrap();
}

#[tokio::test]
async fn files_of_nobody_are_removed() {
    let world = World::new().await;
    let kept = suspended(&world).await;
    let nobody = world.root().join("microvms/microvm-nobody");
    std::fs::create_dir_all(&nobody).unwrap();
    let _restarted = world.restarted().await;
    assert!(!nobody.exists());
    assert!(world.snapshots.microvm(&kept).directory().exists());
}
