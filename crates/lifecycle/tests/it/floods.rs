//! A guest that plays its agent and says without end whatever it is asked for: its microVM can be
//! suspended, resumed and ended as any other, and those of others go on.

use std::sync::atomic::Ordering;

use hearth_api::{MicrovmId, MicrovmState};
use hearth_lifecycle::Registry;
use hearth_node::{Destination, Life as _};
use hearth_testkit::waiting::until;

use crate::support::{WAKES, World};

/// Frames that show that a guest is listened to.
const MANY: usize = 2_000;

/// A microVM whose guest sends without end on every connection to it, and a quiet one
/// beside it (the second).
async fn flooded(world: &World) -> (MicrovmId, MicrovmId) {
    let neighbour = world.running(Some(WAKES)).await;
    world.flooding.store(true, Ordering::SeqCst);
    let id = world.running(Some(WAKES)).await;
    (id, neighbour)
}

async fn until_it_is_heard(world: &World) {
    let before = world.flooded.load(Ordering::SeqCst);
    let heard = async || world.flooded.load(Ordering::SeqCst) >= before + MANY;
    until("somebody listens to it", heard).await;
}

/// Everything can be done with it.
async fn goes_on(world: &World, registry: &Registry, id: &MicrovmId) {
    registry.ensure_running(id).await.unwrap().connect(Destination::App(8080)).await.unwrap();
    registry.suspend(id, None).await.unwrap();
    world.wait_for(id, MicrovmState::Suspended).await;
    world.flooding.store(false, Ordering::SeqCst);
    registry.ensure_running(id).await.unwrap();
    world.flooding.store(true, Ordering::SeqCst);
}

#[tokio::test]
async fn a_microvm_whose_guest_floods_is_suspended_woken_and_ended_and_others_go_on() {
    let world = World::new().await;
    let (id, neighbour) = flooded(&world).await;
    for _ in 0..2 {
        until_it_is_heard(&world).await;
        goes_on(&world, &world.registry, &neighbour).await;
        world.registry.suspend(&id, None).await.unwrap();
        world.wait_for(&id, MicrovmState::Suspended).await;
        world.registry.ensure_running(&id).await.unwrap();
    }
    until_it_is_heard(&world).await;
    world.registry.terminate(&id, None).await.unwrap();
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    assert_eq!(ended.state_reason().as_deref(), Some("Success."));
    assert!(world.vmm.vm(id.as_str()).is_none() && !world.run_dir(&id).exists());
    assert_eq!(world.networks.load(Ordering::SeqCst), 1, "the neighbour's");
    goes_on(&world, &world.registry, &neighbour).await;
}

#[tokio::test]
async fn a_guest_that_floods_its_hooks_delays_neither_suspend_nor_end() {
    let world = World::hooked(&["suspend", "terminate"], 3).await;
    let (suspended, neighbour) = flooded(&world).await;
    let terminated = world.running(Some(WAKES)).await;
    world.registry.suspend(&suspended, None).await.unwrap();
    let ended = world.wait_for(&suspended, MicrovmState::Terminated).await;
    let reason = ended.state_reason().unwrap();
    assert!(reason.starts_with("Suspend lifecycle hook failed."), "{reason}");
    world.registry.terminate(&terminated, None).await.unwrap();
    world.wait_for(&terminated, MicrovmState::Terminated).await;
    goes_on(&world, &world.registry, &neighbour).await;
}

#[tokio::test]
async fn a_guest_that_floods_is_taken_over_and_ended_by_the_next_service() {
    let world = World::new().await;
    let (id, neighbour) = flooded(&world).await;
    until_it_is_heard(&world).await;
    world.registry.leave().await;
    let restarted = world.restarted().await;
    restarted.terminate(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Terminated).await;
    goes_on(&world, &restarted, &neighbour).await;
}
