//! What a version left that kept in files beside the disk what the record says now.

use std::path::PathBuf;

use hearth_api::{MicrovmId, MicrovmState};
use hearth_records::{MicrovmRecord, Microvms as _, NodeId, Owner, Phase, Reason};
use hearth_vmm::ExitReason;

use crate::support::{WAKES, World};

/// Makes of a microVM whose service has gone one of that version: in this state, and with a guest
/// that has gone on from its snapshot if it is said so.
async fn made_old(world: &World, id: &MicrovmId, state: MicrovmState, diverged: bool) {
    // As the migration of the database leaves them.
    let phase = match state {
        MicrovmState::Pending => Phase::Launching,
        MicrovmState::Running => Phase::Running,
        MicrovmState::Suspending => Phase::Suspending,
        _ => Phase::Suspended,
    };
    let owner = Owner { node: NodeId::nobody(), epoch: 0 };
    world.rewrite(id, |record| *record = MicrovmRecord { owner, spent: 0, ..record.entering(phase) }).await;
    if diverged {
        let snapshot = world.snapshots.microvm(id).snapshot_id();
        let began_with = snapshot.map_or("none".to_owned(), |id| id.to_string());
        std::fs::write(file(world, id, "diverged"), began_with).unwrap();
    }
}

fn file(world: &World, id: &MicrovmId, name: &str) -> PathBuf {
    world.snapshots.microvm(id).directory().join(name)
}

/// A microVM that was woken so many times.
async fn woken(world: &World, times: u32) -> MicrovmId {
    let id = world.running(Some(WAKES)).await;
    for _ in 0..times {
        world.registry.suspend(&id, None).await.unwrap();
        world.wait_for(&id, MicrovmState::Suspended).await;
        world.registry.ensure_running(&id).await.unwrap();
    }
    id
}

#[tokio::test]
async fn what_ran_is_taken_over_and_is_lost_with_its_vmm() {
    for times in [0, 1] {
        let world = World::new().await;
        let (id, lost) = (woken(&world, times).await, woken(&world, times).await);
        world.registry.leave().await;
        for id in [&id, &lost] {
            made_old(&world, id, MicrovmState::Running, true).await;
        }
        world.vmm.vm(lost.as_str()).unwrap().exit(ExitReason::Stopped);
        let restarted = world.restarted().await;
        restarted.ensure_running(&id).await.unwrap();
        assert_eq!(world.record(&id).await.spent, times);
        assert!(!file(&world, &id, "diverged").exists());
        let ended = world.wait_for(&lost, MicrovmState::Terminated).await;
        assert_eq!(ended.reason, Some(Reason::VmmLost));
    }
}

#[tokio::test]
async fn what_was_suspended_wakes_and_what_was_being_suspended_is() {
    let world = World::new().await;
    let (resting, begun) = (woken(&world, 1).await, woken(&world, 1).await);
    world.registry.suspend(&resting, None).await.unwrap();
    world.wait_for(&resting, MicrovmState::Suspended).await;
    world.registry.leave().await;
    made_old(&world, &resting, MicrovmState::Suspended, false).await;
    made_old(&world, &begun, MicrovmState::Suspending, true).await;
    let restarted = world.restarted().await;
    for id in [resting, begun] {
        world.wait_for(&id, MicrovmState::Suspended).await;
        restarted.ensure_running(&id).await.unwrap();
    }
}

#[tokio::test]
async fn a_resume_is_begun_again_from_the_copy_of_the_disk() {
    for state in [MicrovmState::Pending, MicrovmState::Suspended] {
        let world = World::new().await;
        let id = woken(&world, 0).await;
        world.registry.suspend(&id, None).await.unwrap();
        world.wait_for(&id, MicrovmState::Suspended).await;
        world.registry.leave().await;
        let own = world.snapshots.microvm(&id);
        let before = std::fs::read(own.disk()).unwrap();
        assert!(own.keep_disk());
        std::fs::write(own.disk(), "other blocks").unwrap();
        made_old(&world, &id, state, true).await;
        world.restarted().await.ensure_running(&id).await.unwrap();
        assert_eq!(std::fs::read(own.disk()).unwrap(), before, "{state:?}");
    }
}

#[tokio::test]
async fn a_launch_is_begun_again_with_its_payload_unless_its_hook_has_answered() {
    for answered in [false, true] {
        let world = World::hooked(&["run"], 3).await;
        let id = world.launch_with_payload("now").await;
        world.wait_for(&id, MicrovmState::Running).await;
        world.registry.leave().await;
        world.hooks.lock().unwrap().called.clear();
        made_old(&world, &id, MicrovmState::Pending, true).await;
        let left = if answered { "run-hook-called" } else { "run-hook-payload" };
        std::fs::write(file(&world, &id, left), "of then").unwrap();
        let _restarted = world.restarted().await;
        world.wait_for(&id, MicrovmState::Running).await;
        let called = world.hooks.lock().unwrap().called.clone();
        let heard = called.iter().filter(|(_, body)| body.contains("of then")).count();
        assert_eq!((called.len(), heard), if answered { (0, 0) } else { (1, 1) });
        assert!(!file(&world, &id, left).exists());
        assert_eq!(world.store.payload(&id).await.unwrap(), None);
    }
}
