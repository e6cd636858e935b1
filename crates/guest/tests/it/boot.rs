//! Guests that do not come up, on the fake VMM.

use std::future::{pending, ready};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use hearth_guest::{
    Artefacts, Egress, Error, GuestFactory, GuestNetwork, GuestPlan, Limits, Networks, UidPool,
};
use hearth_guest_protocol::{Reply, codec};
use hearth_vmm::fake::{FakeOperation, FakeVmm};
use hearth_vmm::{GuestChannel, GuestStream, NetworkInterface};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Networks on which the agents before number `first_answer` are silent.
#[derive(Debug)]
struct TestNetworks {
    first_answer: usize,
    acquired: AtomicUsize,
    released: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct TestNetwork {
    answers: bool,
    released: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct TestAgent(bool);

#[async_trait]
impl Networks for TestNetworks {
    async fn acquire(&self, _: Egress) -> io::Result<Box<dyn GuestNetwork>> {
        let number = self.acquired.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(TestNetwork { answers: number >= self.first_answer, released: self.released.clone() }))
    }
}

#[async_trait]
impl GuestNetwork for TestNetwork {
    fn namespace(&self) -> Option<Arc<OwnedFd>> {
        None
    }

    fn take_interfaces(&mut self) -> Vec<NetworkInterface> {
        Vec::new()
    }

    fn channel(&self) -> Arc<dyn GuestChannel> {
        Arc::new(TestAgent(self.answers))
    }

    async fn release(self: Box<Self>) {
        self.released.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl GuestChannel for TestAgent {
    async fn connect(&self) -> io::Result<Box<dyn GuestStream>> {
        if !self.0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (host, mut guest) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let mut request = [0; 256];
            let _ = guest.read(&mut request).await;
            guest.write_all(&codec::encode(&Reply::Done).unwrap()).await.unwrap();
        });
        Ok(Box::new(host))
    }
}

struct World {
    vmm: Arc<FakeVmm>,
    released: Arc<AtomicUsize>,
    factory: GuestFactory,
    _directory: tempfile::TempDir,
}

fn world(first_answer: usize) -> World {
    let directory = tempfile::tempdir().unwrap();
    let (vmm, released) = (Arc::new(FakeVmm::new()), Arc::new(AtomicUsize::new(0)));
    let networks = TestNetworks { first_answer, acquired: AtomicUsize::new(0), released: released.clone() };
    let factory = GuestFactory {
        vmm: vmm.clone(),
        networks: Arc::new(networks),
        artefacts: Artefacts::for_tests(),
        uids: UidPool::new(100_000),
        run_root: directory.path().join("run"),
    };
    World { vmm, released, factory, _directory: directory }
}

fn plan() -> GuestPlan {
    GuestPlan {
        name: "guest".to_owned(),
        vcpu_count: 1,
        memory_mib: 512,
        root: None,
        drives: Vec::new(),
        egress: Egress::Internet,
        limits: Limits::default(),
    }
}

fn boots(world: &World) -> usize {
    world.vmm.calls().iter().filter(|(_, operation)| *operation == FakeOperation::Boot).count()
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_hangs_is_booted_once_more() {
    let world = world(1);
    let guest = world.factory.boot_until_up(plan, None, pending()).await.unwrap();
    assert_eq!((boots(&world), world.released.load(Ordering::SeqCst)), (2, 1));
    assert_eq!(world.vmm.names(), ["guest"], "the first is gone, the second runs");
    guest.destroy().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_again_is_an_error_and_leaves_nothing() {
    let world = world(2);
    let error = world.factory.boot_until_up(plan, None, pending()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error}");
    assert_eq!((boots(&world), world.released.load(Ordering::SeqCst)), (2, 2));
    assert!(world.vmm.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_one_that_is_not_wanted_any_more() {
    let world = world(2);
    let error = world.factory.boot_until_up(plan, None, ready(())).await.unwrap_err();
    assert!(matches!(error, Error::Stopped), "{error}");
    assert_eq!((boots(&world), world.released.load(Ordering::SeqCst)), (1, 1));
    assert!(world.vmm.names().is_empty());
}
