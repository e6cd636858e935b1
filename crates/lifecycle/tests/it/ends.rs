//! Ends are ends: whatever is lost or fails, no VMM outlives its microVM unseen, nothing of it is
//! given to another guest while it runs, and no record or answer says otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hearth_api::{MicrovmId, MicrovmState, Timestamp};
use hearth_lifecycle::Registry;
use hearth_lifecycle::clock::{Clock, HostClock};
use hearth_node::{Life as _, Node as _, Refusal};
use hearth_records::Error;
use hearth_records::testing::{BeforeWrite, Guarded};
use hearth_vmm::Error as VmmError;
use hearth_vmm::fake::{FakeOperation, Schedule};

use crate::support::{WAKES, World};

/// A driver that panics in one operation, once.
#[derive(Debug)]
struct PanicIn(FakeOperation, AtomicBool);

#[async_trait]
impl Schedule for PanicIn {
    async fn before(&self, _: &str, operation: FakeOperation) -> Result<(), VmmError> {
        let panics = operation == self.0 && !self.1.swap(true, Ordering::SeqCst);
        assert!(!panics, "the driver was told to panic in {operation:?}");
        Ok(())
    }
}

fn panic_in(world: &World, operation: FakeOperation) {
    world.vmm.obey(Arc::new(PanicIn(operation, AtomicBool::new(false))));
}

/// Records of a database that cannot be written while it is `broken`.
fn unwritable(world: &World, broken: &Arc<AtomicBool>) -> Arc<Guarded> {
    let broken = broken.clone();
    let before_write: BeforeWrite = Box::new(move |_| {
        let full = broken.load(Ordering::SeqCst).then(|| Error::NoRoom { minimum_mib: 64 });
        Box::pin(async move { full.map_or(Ok(()), Err) })
    });
    Guarded::new(Arc::new(world.store.clone()), before_write)
}

fn uid(world: &World, id: &MicrovmId) -> u64 {
    let text = std::fs::read_to_string(world.run_dir(id).join("guest.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["uid"].as_u64().unwrap()
}

const KILL_FAILED: VmmError = VmmError::TimedOut { command: String::new(), seconds: 20 };

#[tokio::test]
async fn a_supervisor_that_panics_ends_its_vm_and_its_record_says_so() {
    for operation in [FakeOperation::Pause, FakeOperation::CreateSnapshot, FakeOperation::Kill] {
        let world = World::new().await;
        let (id, other) = (world.running(Some(WAKES)).await, world.running(None).await);
        let running = world.registry.ensure_running(&id).await.unwrap();
        panic_in(&world, operation);
        world.registry.suspend(&id, None).await.unwrap();
        if operation == FakeOperation::Kill {
            // The state is safe on disk by then, and ending the VMM is tried again.
            world.wait_for(&id, MicrovmState::Suspended).await;
            continue;
        }
        let ended = world.wait_for(&id, MicrovmState::Terminated).await;
        let reason = "The service has failed while it was driving the MicroVM.";
        assert_eq!(ended.state_reason().as_deref(), Some(reason));
        assert!(ended.terminated_at.is_some());
        running.ended().await;
        assert!(world.vmm.vm(id.as_str()).is_none(), "its VM has ended");
        assert!(!world.snapshots.microvm(&id).directory().exists());
        assert_eq!(world.registry.terminate(&id, None).await, Ok(()));
        assert_eq!(world.record(&other).await.state, MicrovmState::Running, "nobody else is concerned");
        world.registry.terminate(&other, None).await.unwrap();
        world.wait_for(&other, MicrovmState::Terminated).await;
        world.assert_released(&id);
    }
}

#[tokio::test]
async fn a_launch_whose_supervisor_panics_ends() {
    for operation in [FakeOperation::Restore, FakeOperation::Resume] {
        let world = World::new().await;
        panic_in(&world, operation);
        let id = world.launch(None).await;
        world.wait_for(&id, MicrovmState::Terminated).await;
        world.assert_released(&id);
    }
}

#[tokio::test]
async fn what_a_vmm_that_cannot_be_ended_holds_is_given_to_nobody_until_it_has_ended() {
    let world = World::new().await;
    let id = world.running(None).await;
    let taken = uid(&world, &id);
    world.vmm.fail_next(FakeOperation::Kill, KILL_FAILED);
    world.registry.terminate(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Terminating).await;
    let other = world.running(None).await;
    assert!(world.vmm.vm(id.as_str()).is_some(), "it still runs");
    assert_eq!(world.record(&id).await.state, MicrovmState::Terminating, "and the record says so");
    assert_ne!(uid(&world, &other), taken);
    assert_eq!(world.networks.load(Ordering::SeqCst), 2);
    // It is tried again.
    world.wait_for(&id, MicrovmState::Terminated).await;
    assert!(world.vmm.vm(id.as_str()).is_none());
    assert_eq!(world.networks.load(Ordering::SeqCst), 1);
    assert_eq!(uid(&world, &world.running(None).await), taken);
}

#[tokio::test]
async fn a_terminate_of_a_microvm_that_nobody_drives_is_done_and_not_only_said() {
    let world = World::new().await;
    let id = world.running(None).await;
    world.registry.leave().await;
    // A service that could not look at it when it started.
    let registry = world.blind();
    assert_eq!(registry.suspend(&id, None).await, Err(Refusal::Internal), "nothing is said to be done");
    assert_eq!(registry.terminate(&id, None).await, Ok(()));
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    assert_eq!(ended.state_reason().as_deref(), Some("Success."));
    assert!(!world.run_dir(&id).exists(), "what its record named was ended and removed");
    assert!(!world.snapshots.microvm(&id).directory().exists());
    assert_eq!(registry.terminate(&id, None).await, Ok(()));
    assert_eq!(registry.terminate(&MicrovmId::new(), None).await, Err(Refusal::NotFound));
}

#[tokio::test]
async fn what_cannot_be_written_is_neither_acknowledged_nor_published_nor_done() {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    world.registry.leave().await;
    let broken = Arc::new(AtomicBool::new(false));
    let registry = world.with_records(unwritable(&world, &broken));
    hearth_lifecycle::recover::find(&registry).await.unwrap().finish(&registry).await;
    let before = world.record(&id).await;

    broken.store(true, Ordering::SeqCst);
    assert_eq!(registry.suspend(&id, None).await, Err(Refusal::Internal));
    assert_eq!(registry.terminate(&id, None).await, Err(Refusal::Internal));
    assert_eq!(world.record(&id).await, before);
    assert!(registry.endpoint(&id).unwrap().running.is_some(), "it runs, and is said to run");
    assert!(world.vmm.vm(id.as_str()).unwrap().is_running());

    // What has happened meanwhile is written in the end, and published then.
    let failed = hearth_vmm::ExitReason::Failed { status: 137, log_tail: String::new() };
    world.vmm.vm(id.as_str()).unwrap().exit(failed);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.record(&id).await, before);
    broken.store(false, Ordering::SeqCst);
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    assert!(ended.state_reason().unwrap().contains("status 137"));
    world.assert_released(&id);
}

/// The host's clocks, and how often somebody looked.
#[derive(Debug, Default)]
struct CountedClock(AtomicUsize);

impl Clock for CountedClock {
    fn wall(&self) -> Timestamp {
        HostClock.wall()
    }

    fn steady_millis(&self) -> i64 {
        self.0.fetch_add(1, Ordering::SeqCst);
        HostClock.steady_millis()
    }

    fn longest_sleep(&self) -> Duration {
        HostClock.longest_sleep()
    }
}

#[tokio::test]
async fn an_end_that_cannot_be_written_during_a_step_waits_for_the_end_of_the_step() {
    let world = World::new().await;
    let id = world.recorded_long_ago().await;
    let broken = Arc::new(AtomicBool::new(true));
    let mut config = world.config();
    config.records.microvms = unwritable(&world, &broken);
    let clock = Arc::new(CountedClock::default());
    let registry = Registry::with_clock(config, clock.clone());
    // The launch lasts until it is cut short, and then until the VMM is ended, which fails at
    // first.
    world.silent.store(true, Ordering::SeqCst);
    world.vmm.fail_next(FakeOperation::Kill, KILL_FAILED);
    registry.clone().launch(world.record(&id).await, None);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let looks = clock.0.load(Ordering::SeqCst);
    assert!(looks < 50, "{looks} looks at the clock");
    broken.store(false, Ordering::SeqCst);
    world.wait_for(&id, MicrovmState::Terminated).await;
}

#[tokio::test]
async fn a_launch_that_cannot_be_written_is_not_published_as_running() {
    let world = World::new().await;
    let id = world.recorded(None).await;
    let broken = Arc::new(AtomicBool::new(true));
    let registry = world.with_records(unwritable(&world, &broken));
    registry.clone().launch(world.record(&id).await, None);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(world.vmm.vm(id.as_str()).is_some(), "its guest is there");
    assert!(registry.endpoint(&id).unwrap().running.is_none(), "and nobody gets it");
    assert_eq!(registry.terminate(&id, None).await, Err(Refusal::Internal));
    broken.store(false, Ordering::SeqCst);
    world.wait_for(&id, MicrovmState::Running).await;
    registry.ensure_running(&id).await.unwrap();
}

#[tokio::test]
async fn a_service_that_cannot_start_leaves_the_guests_to_the_next_one() {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    world.registry.leave().await;
    drop(hearth_lifecycle::recover::find(&world.blind()).await.unwrap());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(world.vmm.vm(id.as_str()).unwrap().is_running());
    world.restarted().await.ensure_running(&id).await.unwrap();
}
