//! One owner at a time: whoever finds that a record has another owner stops what it runs, publishes
//! nothing and answers nothing that is not so.

use hearth_api::{MicrovmId, MicrovmState};
use hearth_node::{Life as _, Refusal};
use hearth_records::{MicrovmRecord, NodeId};

use crate::support::{WAKES, World};

/// Somebody of this node takes the microVM over.
async fn claimed_by(world: &World, id: &MicrovmId, node: &str) -> MicrovmRecord {
    let node = NodeId::from_stored(node);
    world.rewrite(id, |record| record.owner = record.owner.succeeded_by(node)).await;
    world.record(id).await
}

async fn is_let_go(world: &World, id: &MicrovmId) {
    while world.registry.knows(id) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_former_owner_stops_its_vm_and_touches_nothing() {
    let world = World::new().await;
    let (id, other) = (world.running(Some(WAKES)).await, world.running(None).await);
    let running = world.registry.ensure_running(&id).await.unwrap();
    let claimed = claimed_by(&world, &id, "another").await;
    assert!(world.vmm.vm(id.as_str()).is_some(), "it does not know yet");
    assert_eq!(world.registry.suspend(&id, None).await, Err(Refusal::Internal));
    is_let_go(&world, &id).await;
    running.ended().await;
    assert!(world.vmm.vm(id.as_str()).is_none(), "its VM has ended");
    assert_eq!(world.record(&id).await, claimed);
    assert!(world.snapshots.microvm(&id).directory().exists(), "its files are the new owner's");
    assert_eq!(world.record(&other).await.state, MicrovmState::Running, "nobody else is concerned");
}

#[tokio::test]
async fn an_end_that_is_no_longer_ones_own_is_not_written() {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    let claimed = claimed_by(&world, &id, "another").await;
    world.vmm.vm(id.as_str()).unwrap().exit(hearth_vmm::ExitReason::Stopped);
    is_let_go(&world, &id).await;
    assert_eq!(world.record(&id).await, claimed);
}

#[tokio::test]
async fn an_owner_that_loses_it_in_the_midst_of_a_step_ends_the_step() {
    let world = World::new().await;
    world.vmm.delay(hearth_vmm::fake::FakeOperation::CreateSnapshot, std::time::Duration::from_millis(300));
    let id = world.running(Some(WAKES)).await;
    world.registry.suspend(&id, None).await.unwrap();
    let claimed = claimed_by(&world, &id, "another").await;
    assert_eq!(world.registry.terminate(&id, None).await, Err(Refusal::Internal));
    is_let_go(&world, &id).await;
    assert!(world.vmm.vm(id.as_str()).is_none());
    assert_eq!(world.record(&id).await, claimed);
}

#[tokio::test]
async fn a_later_process_of_the_same_node_has_the_guest() {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    claimed_by(&world, &id, "node").await;
    assert_eq!(world.registry.suspend(&id, None).await, Err(Refusal::Internal));
    is_let_go(&world, &id).await;
    assert!(world.vmm.vm(id.as_str()).unwrap().is_running(), "the later process has taken it over");
    let restarted = world.restarted().await;
    restarted.ensure_running(&id).await.unwrap();
    assert!(world.record(&id).await.owner.epoch > 2);
}

#[tokio::test]
async fn a_server_leaves_the_microvms_of_others_alone() {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    world.registry.leave().await;
    let others = claimed_by(&world, &id, "another").await;
    let restarted = world.restarted().await;
    assert!(!restarted.knows(&id));
    assert_eq!(world.record(&id).await, others);
}

#[tokio::test]
async fn what_goes_from_node_to_node_is_driven_by_the_last() {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
    let (other, _vmm) = world.beside("another");
    for _ in 0..2 {
        // The one that had it does not know yet that it has it no more.
        for node in [&other, &world.registry] {
            assert!(hearth_lifecycle::recover::take_over(node, &id).await.unwrap());
            node.ensure_running(&id).await.unwrap();
            assert!(!hearth_lifecycle::recover::take_over(node, &id).await.unwrap(), "it runs");
            node.suspend(&id, None).await.unwrap();
            world.wait_for(&id, MicrovmState::Suspended).await;
            assert!(!hearth_lifecycle::recover::take_over(node, &id).await.unwrap(), "it has it");
        }
    }
}
