//! A host that outlives its services: driver, networks, records and files stay when
//! a service is killed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use hearth_api::{
    AccountId, IdlePolicy, ImageArn, ImageVersion, Logging, MicrovmId, MicrovmState, Timestamp,
};
use hearth_guest::{GuestFactory, UidPool};
use hearth_lifecycle::clock::Clock;
use hearth_lifecycle::records::Records;
use hearth_lifecycle::{Registry, RegistryConfig};
use hearth_node::Node as _;
use hearth_records::testing::{MemoryRecords, built, image_arn, settings};
use hearth_records::{ImageVersionRecord, MicrovmRecord, MicrovmSettings, NodeId};
use hearth_snapshots::Snapshots;
use hearth_store_sqlite::Store;
use hearth_testkit::guests;
use hearth_testkit::networks::TestNetworks;
use hearth_vmm::ExitReason;
use hearth_vmm::fake::FakeVmm;
use tokio::runtime::Runtime;

use super::faults::Faults;
use super::guests::{Guests, SimulatedAgents};
use super::records::faulty;

const FIRST_UID: u32 = 100_000;
/// 2026-01-01T00:00:00Z.
const BEGIN_MILLIS: i64 = 1_767_225_600_000;

pub(super) struct World {
    pub(super) faults: Arc<Faults>,
    pub(super) guests: Arc<Guests>,
    pub(super) vmm: Arc<FakeVmm>,
    pub(super) records: Arc<MemoryRecords>,
    pub(super) clock: Arc<SimulatedClock>,
    networks: TestNetworks<SimulatedAgents>,
    uids: UidPool,
    logs: Store,
    directory: tempfile::TempDir,
    /// Without and with hooks.
    images: [ImageArn; 2],
}

/// Clocks that follow tokio's, which begins anew with each service.
#[derive(Debug)]
pub(super) struct SimulatedClock {
    /// Tokio's moment when this service began, and milliseconds of all services before.
    epoch: Mutex<(Option<tokio::time::Instant>, i64)>,
    /// What the wall clock was set by, in milliseconds.
    stepped: AtomicI64,
    begin: i64,
}

impl SimulatedClock {
    /// Somebody sets the wall clock.
    pub(super) fn step(&self, milliseconds: i64) {
        self.stepped.fetch_add(milliseconds, Ordering::SeqCst);
    }

    /// The host sleeps: time goes on, and tokio's clock does not notice.
    pub(super) fn sleep(&self, time: Duration) {
        self.epoch.lock().unwrap().1 += time.as_millis() as i64;
    }
}

impl Clock for SimulatedClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.begin + self.steady_millis() + self.stepped.load(Ordering::SeqCst))
    }

    fn steady_millis(&self) -> i64 {
        let (since, before) = *self.epoch.lock().unwrap();
        before + since.map_or(0, |since| since.elapsed().as_millis() as i64)
    }

    fn longest_sleep(&self) -> Duration {
        Duration::from_hours(1)
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        // Its files are many and small.
        let memory = PathBuf::from("/dev/shm");
        let directory =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let faults = Faults::new(seed);
        let (guests, vmm) = (Guests::new(faults.clone()), Arc::new(FakeVmm::new()));
        faults.rule(&vmm);
        let images = ["plain", "hooked"].map(|name| image_arn("000000000000", name));
        let versions = images.iter().map(version).collect();
        let world = Self {
            records: Arc::new(MemoryRecords::new(versions)),
            clock: Arc::new(SimulatedClock {
                epoch: Mutex::default(),
                stepped: AtomicI64::new(0),
                begin: BEGIN_MILLIS,
            }),
            networks: TestNetworks::new(SimulatedAgents(guests.clone())),
            uids: UidPool::new(FIRST_UID),
            logs: unused_store(),
            faults,
            guests,
            vmm,
            directory,
            images,
        };
        runtime().block_on(world.take_snapshots());
        world
    }

    fn factory(&self) -> GuestFactory {
        let run_root = self.directory.path().join("run");
        guests::factory(&self.vmm, self.networks.clone(), self.uids.clone(), run_root)
    }

    /// As a service finds them that has just been started.
    fn snapshots(&self) -> Snapshots {
        Snapshots::open(self.directory.path()).unwrap()
    }

    async fn take_snapshots(&self) {
        let snapshots = self.snapshots();
        for arn in &self.images {
            guests::publish_base(&self.factory(), &snapshots, arn, ImageVersion::FIRST).await;
        }
    }

    /// Runs a service until `work` is done with it, then kills it wherever it is: nothing of it
    /// goes on, and its VMMs end with it.
    pub(super) fn service<T>(&self, work: impl AsyncFnOnce(Arc<Registry>) -> T) -> T {
        let runtime = runtime();
        let result = runtime.block_on(async {
            self.clock.epoch.lock().unwrap().0 = Some(tokio::time::Instant::now());
            let config = RegistryConfig {
                node: node(),
                records: Records {
                    microvms: faulty(&self.records, &self.faults),
                    images: self.records.clone(),
                    logs: Arc::new(self.logs.clone()),
                },
                guests: self.factory(),
                egresses: hearth_egress::Egresses::new(self.records.clone()),
                snapshots: self.snapshots(),
                vmm_overhead_mib: 64,
                hooks_port: hearth_lifecycle::HooksPort::Open,
                sealing: hearth_lifecycle::SealingKey::new(&[7; 32]).unwrap(),
            };
            let registry = Registry::with_clock(config, self.clock.clone());
            hearth_lifecycle::recover::find(&registry).await.unwrap().finish(&registry).await;
            let result = work(registry).await;
            let elapsed = self.clock.steady_millis();
            *self.clock.epoch.lock().unwrap() = (None, elapsed);
            result
        });
        drop(runtime);
        for name in self.vmm.names() {
            self.vmm.vm(&name).unwrap().exit(ExitReason::Stopped);
        }
        // What the server sweeps before it recovers.
        let _ = std::fs::remove_dir_all(self.directory.path().join("run"));
        result
    }

    /// Records a microVM and hands it to the service.
    pub(super) fn launch(
        &self,
        registry: &Arc<Registry>,
        hooked: bool,
        idle_policy: Option<IdlePolicy>,
        maximum_seconds: u32,
    ) -> MicrovmId {
        let settings = MicrovmSettings {
            minimum_memory_mib: 2048,
            idle_policy,
            maximum_duration_in_seconds: maximum_seconds,
            logging: Some(Logging::Disabled {}),
            ..settings()
        };
        let account = AccountId::from_stored("000000000000");
        let arn = self.images[usize::from(hooked)].clone();
        let mut record = MicrovmRecord::pending(account, arn, ImageVersion::FIRST, settings, node());
        record.started_at = self.clock.wall();
        let id = record.id.clone();
        let payload = hooked.then(|| registry.seal_payload(&id, "payload").unwrap());
        self.records.put(record.clone(), payload);
        registry.clone().launch(record, None);
        id
    }

    /// Every record tells the truth, and nothing is held that no record speaks of. Returns how many
    /// microVMs run, are suspended and have ended.
    pub(super) fn audit(&self) -> [usize; 3] {
        let [mut running, mut suspended, mut ended] = [0; 3];
        let snapshots = self.snapshots();
        let image = |arn| snapshots.image(arn, ImageVersion::FIRST).unwrap().id().clone();
        let mut referenced: BTreeSet<_> = self.images.iter().map(image).collect();
        for record in self.records.all() {
            let files = snapshots.microvm(&record.id);
            referenced.extend(files.snapshot_id());
            let vm = self.vmm.vm(record.id.as_str());
            match record.state {
                MicrovmState::Running => {
                    running += 1;
                    assert!(vm.is_some_and(|vm| vm.is_running()), "RUNNING without a guest: {record:?}");
                }
                MicrovmState::Suspended => {
                    suspended += 1;
                    assert!(vm.is_none(), "SUSPENDED with a guest: {record:?}");
                    let snapshot = files.generation().unwrap();
                    assert!(snapshot > record.spent, "SUSPENDED without a snapshot that fits: {record:?}");
                }
                MicrovmState::Terminated => {
                    ended += 1;
                    let left =
                        std::fs::read_dir(files.directory()).map(|left| left.flatten().collect::<Vec<_>>());
                    assert!(vm.is_none() && left.is_err(), "not released: {vm:?}, {left:?}, {record:?}");
                    assert!(record.state_reason().is_some() && record.terminated_at.is_some(), "{record:?}");
                }
                _ => panic!("it does not come to rest: {record:?}"),
            }
        }
        let kept = std::fs::read_dir(self.directory.path().join("snapshots")).unwrap().count();
        assert_eq!(kept, referenced.len(), "snapshots are left, or missing");
        assert!(self.records.payloads_kept().is_empty(), "payloads are kept");
        assert_eq!(self.vmm.names().len(), running, "VMs are left");
        assert_eq!(self.networks.in_use().load(Ordering::SeqCst), running, "networks are left");
        let directories = std::fs::read_dir(self.directory.path().join("run")).map_or(0, Iterator::count);
        assert_eq!(directories, running, "run directories are left");
        let uids = (0..=running).map(|_| self.uids.take()).collect::<Vec<_>>();
        assert_eq!(uids.last().unwrap().get(), FIRST_UID + 2 * running as u32, "user ids are left");
        [running, suspended, ended]
    }
}

/// The node of all services.
fn node() -> NodeId {
    NodeId::from_stored("node")
}

/// A place for logs, which are off; one for all worlds. It cannot be opened on a paused clock.
fn unused_store() -> Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| Runtime::new().unwrap().block_on(Store::temporary()).unwrap()).clone()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// A version that can be launched, with hooks if its name says so.
pub(super) fn version(arn: &ImageArn) -> ImageVersionRecord {
    let enabled = arn.name.as_str() == "hooked";
    let state = if enabled { "ENABLED" } else { "DISABLED" };
    let hooks = serde_json::json!({ "port": 9000, "microvmHooks":
        { "run": state, "resume": state, "suspend": state, "terminate": state } });
    let mut version = built(arn.clone(), Timestamp::now()).version;
    version.configuration.hooks = serde_json::from_value(hooks).unwrap();
    version
}
