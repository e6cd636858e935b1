//! How connections reach the app.

use std::io::ErrorKind;
use std::time::Duration;

use hearth_api::MicrovmId;
use hearth_node::{Destination, Life as _};
use tokio::io::AsyncReadExt as _;

use crate::support::World;

/// What the other end of a new connection to port 80 says.
async fn reached(world: &World, id: &MicrovmId) -> String {
    let mut stream =
        world.registry.ensure_running(id).await.unwrap().connect(Destination::App(80)).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    said
}

fn tried(world: &World) -> Vec<Duration> {
    std::mem::take(&mut world.past_agent.lock().unwrap().tried)
}

#[tokio::test]
async fn the_guests_kernel_leads_connections_to_the_app() {
    let world = World::new().await;
    let id = world.running(None).await;
    assert_eq!(reached(&world, &id).await, "port 80");
    // Nothing listens there, as the kernel says; the agent knows of `::1` too.
    world.past_agent.lock().unwrap().answer = Err(ErrorKind::ConnectionRefused);
    assert_eq!(reached(&world, &id).await, "agent's port 80");
    world.past_agent.lock().unwrap().answer = Ok(());
    assert_eq!(reached(&world, &id).await, "port 80");
    // The app has closed the way.
    world.past_agent.lock().unwrap().answer = Err(ErrorKind::TimedOut);
    for _ in 0..2 {
        assert_eq!(reached(&world, &id).await, "agent's port 80");
    }
    let tried = tried(&world);
    assert!(tried.len() == 4 && tried[0] < tried[1] && tried[1..] == [tried[1]; 3], "{tried:?}");
}

#[tokio::test]
async fn a_guest_without_this_way_costs_one_attempt_in_each_life() {
    let world = World::new().await;
    world.past_agent.lock().unwrap().answer = Err(ErrorKind::TimedOut);
    let id = world.running(None).await;
    for _ in 0..3 {
        assert_eq!(reached(&world, &id).await, "agent's port 80");
    }
    assert_eq!(tried(&world).len(), 1);
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, hearth_api::MicrovmState::Suspended).await;
    world.registry.resume(&id, None).await.unwrap();
    world.wait_for(&id, hearth_api::MicrovmState::Running).await;
    assert_eq!(reached(&world, &id).await, "agent's port 80");
    assert_eq!(tried(&world).len(), 1);
}
