//! Guests that do not come up, on the fake VMM.

use std::future::{pending, ready};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hearth_guest::{Error, GuestFactory, GuestPlan, UidPool};
use hearth_guest_protocol::{AppState, Hello, Reply};
use hearth_testkit::agent::{hear, say};
use hearth_testkit::guests;
use hearth_testkit::networks::TestNetworks;
use hearth_vmm::fake::{FakeOperation, FakeVmm};
use hearth_vmm::{GuestChannel, GuestStream};

/// An agent that may be silent.
#[derive(Debug, Clone)]
struct TestAgent {
    answers: bool,
}

#[async_trait]
impl GuestChannel for TestAgent {
    async fn connect(&self) -> io::Result<Box<dyn GuestStream>> {
        if !self.answers {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (host, mut guest) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            hear(&mut guest).await;
            let hello = Hello { protocol: 1, kernel: "6.12".to_owned(), app: AppState::NotStarted };
            say(&mut guest, &Reply::Hello(hello)).await.unwrap();
        });
        Ok(Box::new(host))
    }
}

struct World {
    vmm: Arc<FakeVmm>,
    acquired: Arc<AtomicUsize>,
    in_use: Arc<AtomicUsize>,
    factory: GuestFactory,
    _directory: tempfile::TempDir,
}

/// A world whose agents before number `first_answer` are silent.
fn world(first_answer: usize) -> World {
    let directory = tempfile::tempdir().unwrap();
    let vmm = Arc::new(FakeVmm::new());
    let acquired = Arc::<AtomicUsize>::default();
    let count = acquired.clone();
    let networks = TestNetworks::new(move |_| {
        Ok(TestAgent { answers: count.fetch_add(1, Ordering::SeqCst) >= first_answer })
    });
    let in_use = networks.in_use();
    let factory = guests::factory(&vmm, networks, UidPool::new(100_000), directory.path().join("run"));
    World { vmm, acquired, in_use, factory, _directory: directory }
}

impl World {
    /// How many networks were returned.
    fn released(&self) -> usize {
        self.acquired.load(Ordering::SeqCst) - self.in_use.load(Ordering::SeqCst)
    }
}

fn plan() -> GuestPlan {
    guests::plan("guest")
}

fn boots(world: &World) -> usize {
    world.vmm.calls().iter().filter(|(_, operation)| *operation == FakeOperation::Boot).count()
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_hangs_is_booted_once_more() {
    let world = world(1);
    let guest = world.factory.boot_until_up(plan, None, pending()).await.unwrap();
    assert_eq!((boots(&world), world.released()), (2, 1));
    assert_eq!(world.vmm.names(), ["guest"], "the first is gone, the second runs");
    guest.destroy().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_again_is_an_error_and_leaves_nothing() {
    let world = world(2);
    let error = world.factory.boot_until_up(plan, None, pending()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error}");
    assert_eq!((boots(&world), world.released()), (2, 2));
    assert!(world.vmm.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_one_that_is_not_wanted_any_more() {
    let world = world(2);
    let error = world.factory.boot_until_up(plan, None, ready(())).await.unwrap_err();
    assert!(matches!(error, Error::Stopped), "{error}");
    assert_eq!((boots(&world), world.released()), (1, 1));
    assert!(world.vmm.names().is_empty());
}

/// The lowest free user id, and how many networks were returned.
fn returned(world: &World) -> (u32, usize) {
    (world.factory.uids.take().get(), world.released())
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_is_dropped_is_ended_before_its_user_id_and_network_go_to_another() {
    let world = world(0);
    let guest = world.factory.boot(plan(), None).await.unwrap();
    assert_eq!(returned(&world), (100_001, 0));

    let failure = || hearth_vmm::Error::Unsupported { operation: "to end it now" };
    world.vmm.fail_next(FakeOperation::Kill, failure());
    world.vmm.fail_next(FakeOperation::Kill, failure());
    drop(guest);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(world.vmm.names(), ["guest"], "it could not be ended");
    assert_eq!(returned(&world), (100_001, 0), "and keeps what it has");

    // A guest of the same name has to wait: two must never work on the same files.
    let again = world.factory.boot(plan(), None).await.unwrap();
    assert_eq!(world.released(), 1, "the first was ended in the end");
    again.destroy().await;
    assert_eq!(returned(&world), (100_000, 2));
    assert!(world.vmm.names().is_empty());
    assert!(!world.factory.run_root.join("guest").exists());
}

#[tokio::test(start_paused = true)]
async fn a_vmm_that_ends_by_itself_is_not_waited_for_any_longer() {
    let world = world(0);
    let guest = world.factory.boot(plan(), None).await.unwrap();
    for _ in 0..8 {
        let failure = hearth_vmm::Error::Unsupported { operation: "to end it now" };
        world.vmm.fail_next(FakeOperation::Kill, failure);
    }
    let ending = tokio::spawn(guest.destroy());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!ending.is_finished(), "an end that did not take place is not told as one");
    world.vmm.vm("guest").unwrap().exit(hearth_vmm::ExitReason::Stopped);
    ending.await.unwrap();
    assert_eq!(returned(&world), (100_000, 1));
}

#[tokio::test]
async fn a_start_that_is_given_up_gives_everything_back() {
    let world = world(0);
    world.vmm.delay(FakeOperation::Boot, Duration::from_mins(1));
    let begun = tokio::time::timeout(Duration::from_millis(100), world.factory.boot(plan(), None)).await;
    assert!(begun.is_err());
    world.factory.end_leftover("guest").await;
    assert_eq!(returned(&world), (100_000, 1));
}
