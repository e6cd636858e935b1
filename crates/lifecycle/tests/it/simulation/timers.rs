//! Timers while the wall clock is set, the host sleeps and the service is restarted.

use std::sync::Arc;
use std::time::Duration;

use hearth_api::{IdlePolicy, MicrovmId, MicrovmState};
use hearth_lifecycle::Registry;

use super::world::World;

const HOUR: u32 = 3600;
const DAY_MILLIS: i64 = 86_400_000;
const PATIENT: IdlePolicy = IdlePolicy {
    max_idle_duration_seconds: 2 * HOUR,
    suspended_duration_seconds: 4 * HOUR,
    auto_resume_enabled: true,
};

async fn hours(hours: u64) {
    tokio::time::sleep(Duration::from_hours(hours)).await;
}

/// Launches a microVM and waits until it runs and a few seconds more, so that what is due
/// on the hour is over.
async fn launch(
    world: &World,
    registry: &Arc<Registry>,
    policy: Option<IdlePolicy>,
    maximum: u32,
) -> MicrovmId {
    let id = world.launch(registry, false, policy, maximum);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(world.records.get(&id).unwrap().state, MicrovmState::Running);
    id
}

fn lifetime_is_over(world: &World, id: &MicrovmId) -> bool {
    let record = world.records.get(id).unwrap();
    let over = record.state == MicrovmState::Terminated;
    assert_eq!(record.state_reason().as_deref(), over.then_some("MicroVM exceeded maximum lifetime."));
    over
}

#[test]
fn a_step_of_the_wall_clock_neither_fires_a_timer_nor_puts_it_off() {
    for step in [DAY_MILLIS, -DAY_MILLIS] {
        let world = World::new(0);
        world.service(async |registry: Arc<Registry>| {
            let id = launch(&world, &registry, Some(PATIENT), 24 * HOUR).await;
            let short = launch(&world, &registry, None, 3 * HOUR).await;
            world.clock.step(step);
            hours(1).await;
            assert_eq!(world.records.get(&id).unwrap().state, MicrovmState::Running, "idle for an hour");
            hours(1).await;
            assert_eq!(world.records.get(&id).unwrap().state, MicrovmState::Suspended);
            world.clock.step(-step);
            assert!(!lifetime_is_over(&world, &short));
            hours(1).await;
            assert!(lifetime_is_over(&world, &short));
            hours(2).await;
            assert!(!lifetime_is_over(&world, &id), "suspended for three hours");
            hours(1).await;
            assert!(lifetime_is_over(&world, &id));
        });
    }
}

#[test]
fn time_passes_while_the_host_sleeps_but_nobody_is_idle() {
    let world = World::new(0);
    world.service(async |registry: Arc<Registry>| {
        let short = launch(&world, &registry, None, 5 * HOUR).await;
        let id = launch(&world, &registry, Some(PATIENT), 24 * HOUR).await;
        world.clock.sleep(Duration::from_hours(4));
        hours(1).await;
        assert!(lifetime_is_over(&world, &short));
        assert_eq!(
            world.records.get(&id).unwrap().state,
            MicrovmState::Running,
            "no client could send anything"
        );
        hours(1).await;
        assert_eq!(world.records.get(&id).unwrap().state, MicrovmState::Suspended);
        world.clock.sleep(Duration::from_hours(4));
        hours(1).await;
        assert!(lifetime_is_over(&world, &id));
    });
}

#[test]
fn timers_survive_a_restart_and_a_wall_clock_that_was_set_back() {
    let world = World::new(0);
    let (id, other) = world.service(async |registry: Arc<Registry>| {
        let id = launch(&world, &registry, Some(PATIENT), 24 * HOUR).await;
        let other = launch(&world, &registry, None, 6 * HOUR).await;
        registry.suspend(&id, None).await.unwrap();
        registry.suspend(&other, None).await.unwrap();
        hours(3).await;
        (id, other)
    });
    world.service(async |_registry: Arc<Registry>| {
        tokio::time::sleep(Duration::from_mins(50)).await;
        assert!(!lifetime_is_over(&world, &id));
        hours(1).await;
        assert!(lifetime_is_over(&world, &id), "suspended for four hours in all");
        assert!(!lifetime_is_over(&world, &other));
    });
    // Back to before it was launched: it gets its time once more, but no more than that.
    world.clock.step(-10 * DAY_MILLIS);
    world.service(async |_registry: Arc<Registry>| {
        hours(5).await;
        assert!(!lifetime_is_over(&world, &other));
        hours(2).await;
        assert!(lifetime_is_over(&world, &other));
    });
}
