//! Days of life of thousands of microVMs on a paused clock, with everything going wrong that
//! can, wherever it can.

mod faults;
mod guests;
mod records;
mod timers;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hearth_api::{IdlePolicy, MicrovmId, MicrovmState};
use hearth_lifecycle::Registry;
use hearth_node::{Destination, Life as _, Unreachable};
use hearth_vmm::ExitReason;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::AsyncReadExt as _;

use self::faults::Fault;
use self::world::World;

const MICROVMS: u32 = 10_000;
/// The service is killed between them.
const SERVICES: u32 = 4;
const HOURS_OF_A_SERVICE: u64 = 18;
const LONGER_THAN_ANY_STEP: Duration = Duration::from_mins(10);
const WAKES: IdlePolicy = IdlePolicy {
    max_idle_duration_seconds: 900,
    suspended_duration_seconds: 400_000,
    auto_resume_enabled: true,
};

/// A request at the endpoint, as the data plane makes it. It is answered in time, and never by an
/// app that does not know of its life.
async fn request(registry: &Registry, id: &MicrovmId, hooked: bool) -> Result<(), Unreachable> {
    let begin = tokio::time::Instant::now();
    let running = registry.ensure_running(id).await;
    assert!(begin.elapsed() <= Duration::from_secs(61), "a request was lost");
    let running = running?;
    let Ok(mut app) = running.connect(Destination::App(8080)).await else { return Err(Unreachable::Failed) };
    let mut told = [0];
    // The life may end at this very moment.
    if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(5), app.read_exact(&mut told)).await {
        assert_eq!(told[0], u8::from(hooked), "a request reached the app before its hook had answered");
        running.traffic(1);
    }
    Ok(())
}

/// Somebody who uses a microVM until it has ended.
async fn user(world: Arc<World>, registry: Arc<Registry>, id: MicrovmId, hooked: bool, mut random: StdRng) {
    while registry.knows(&id) {
        tokio::time::sleep(Duration::from_secs(random.random_range(1..4 * 3600))).await;
        // Whatever is refused: that the microVM is true to its record is looked at in the end.
        let _ = match random.random_range(0..100) {
            0..60 => request(&registry, &id, hooked).await.is_ok(),
            60..80 => registry.suspend(&id, None).await.is_ok(),
            80..95 => registry.resume(&id, None).await.is_ok(),
            95..98 => registry.terminate(&id, None).await.is_ok(),
            _ => world.vmm.vm(id.as_str()).is_some_and(|vm| {
                vm.exit(ExitReason::Failed { status: 139, log_tail: String::new() });
                true
            }),
        };
    }
}

fn any_policy(random: &mut StdRng) -> Option<IdlePolicy> {
    random.random_bool(0.8).then(|| IdlePolicy {
        max_idle_duration_seconds: random.random_range(60..7200),
        suspended_duration_seconds: [0, 3600, 86_400, 400_000][random.random_range(0..4)],
        auto_resume_enabled: random.random_bool(0.7),
    })
}

/// One life of the service: old microVMs are used, new ones arrive, and it is killed
/// in the midst of it.
fn serve(world: &Arc<World>, random: &mut StdRng) {
    world.service(async |registry: Arc<Registry>| {
        let end = tokio::time::Instant::now() + Duration::from_hours(HOURS_OF_A_SERVICE);
        world.faults.at_random(50);
        let use_it = |id: MicrovmId, hooked: bool, random: &mut StdRng| {
            let random = StdRng::seed_from_u64(random.random());
            tokio::spawn(user(world.clone(), registry.clone(), id, hooked, random));
        };
        for record in world.records.all() {
            if registry.knows(&record.id) {
                use_it(record.id, record.image_arn.name.as_str() == "hooked", random);
            }
        }
        for _ in 0..MICROVMS / SERVICES {
            tokio::time::sleep(Duration::from_secs(random.random_range(0..30))).await;
            let (hooked, policy) = (random.random_bool(0.5), any_policy(random));
            let id = world.launch(&registry, hooked, policy, random.random_range(3600..3 * 86_400));
            use_it(id, hooked, random);
        }
        tokio::time::sleep_until(end).await;
    });
    world.faults.off();
}

/// Comes to rest without faults; then everything that sleeps can be woken, and
/// everything can be ended.
fn settle(world: &Arc<World>) {
    world.service(async |registry: Arc<Registry>| {
        tokio::time::sleep(LONGER_THAN_ANY_STEP).await;
        let [running, suspended, ended] = world.audit();
        println!("running {running}, suspended {suspended}, ended {ended}");
        assert!(running < ended / 10, "only launches that had not begun are begun again");
        for record in world.records.all() {
            if record.state == MicrovmState::Suspended {
                // It may be taken by a timer at this very moment.
                let _ = registry.resume(&record.id, None).await;
            }
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        let [running, ..] = world.audit();
        assert!(running > suspended / 2, "{running} of {suspended} woke");
        for record in world.records.all() {
            registry.terminate(&record.id, None).await.unwrap();
        }
        tokio::time::sleep(LONGER_THAN_ANY_STEP).await;
        assert_eq!(world.audit(), [0, 0, MICROVMS as usize]);
    });
}

#[test]
fn thousands_live_for_days_whatever_goes_wrong() {
    let seed = rand::random();
    println!("seed {seed}");
    let world = Arc::new(World::new(seed));
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..SERVICES {
        serve(&world, &mut random);
    }
    settle(&world);
    println!("served {}", world.guests.served.load(Ordering::SeqCst));
    println!("faults {:#?}", world.faults.injected());
}

/// A life that passes every step; what the caller is told does not matter here.
async fn whole_life(world: &World, registry: &Arc<Registry>, hooked: bool) -> MicrovmId {
    let id = world.launch(registry, hooked, Some(WAKES), 28_800);
    let _ = request(registry, &id, hooked).await;
    let _ = registry.suspend(&id, None).await;
    tokio::time::sleep(LONGER_THAN_ANY_STEP).await;
    let _ = request(registry, &id, hooked).await;
    // One that could not be written down is refused, and asked for again.
    while registry.terminate(&id, None).await.is_err() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(LONGER_THAN_ANY_STEP).await;
    id
}

/// The fault comes at the place with this number; whether the life had that many.
fn struck(hooked: bool, place: u32, fault: Fault) -> bool {
    let world = World::new(0);
    world.faults.at(place, fault);
    world.service(async |registry: Arc<Registry>| {
        let terminate_when_told = async {
            world.faults.terminate.notified().await;
            for record in world.records.all() {
                registry.terminate(&record.id, None).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            id = whole_life(&world, &registry, hooked) => {
                let record = world.records.get(&id).unwrap();
                assert_eq!(record.state, MicrovmState::Terminated, "{fault:?} at {place}: {record:?}");
                assert_eq!(world.audit(), [0, 0, 1]);
            }
            () = world.faults.crash.notified() => {}
            () = terminate_when_told => {}
        }
    });
    let struck = world.faults.has_struck();
    world.faults.off();
    world.service(async |registry: Arc<Registry>| {
        tokio::time::sleep(LONGER_THAN_ANY_STEP).await;
        let [_, suspended, _] = world.audit();
        for record in world.records.all() {
            registry.terminate(&record.id, None).await.unwrap();
        }
        tokio::time::sleep(LONGER_THAN_ANY_STEP).await;
        assert_eq!(world.audit(), [0, 0, 1], "{fault:?} at {place}, {suspended} suspended");
    });
    struck
}

#[test]
fn every_fault_at_every_place_of_a_life_ends_well() {
    let mut places = 0;
    for hooked in [false, true] {
        for fault in Fault::ALL {
            let mut place = 0;
            while struck(hooked, place, fault) {
                place += 1;
            }
            places += place;
        }
    }
    println!("{places} places");
    assert!(places > 200, "{places} places only");
}
