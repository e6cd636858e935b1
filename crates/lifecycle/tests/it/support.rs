//! A registry on an in-memory database, the fake driver, and an agent that answers
//! inside this process.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hearth_api::{AccountId, IdlePolicy, ImageArn, ImageVersion, MicrovmId, MicrovmState, Timestamp};
use hearth_egress::Egresses;
use hearth_guest::{Egress, UidPool};
use hearth_lifecycle::records::Records;
use hearth_lifecycle::{Registry, RegistryConfig};
use hearth_node::Node as _;
use hearth_records::testing::{built, image_arn, settings};
use hearth_records::{Images as _, MicrovmRecord, MicrovmSettings, Microvms, NodeId, Quotas};
use hearth_snapshots::Snapshots;
use hearth_store_sqlite::Store;
use hearth_testkit::guests;
use hearth_testkit::networks::TestNetworks;
use hearth_vmm::fake::FakeVmm;
use tokio::sync::watch;

use crate::agent::{HookScript, PastAgent, TestAgent};

/// An idle policy that nothing in a test waits for, but traffic wakes.
pub(crate) const WAKES: IdlePolicy =
    IdlePolicy { max_idle_duration_seconds: 600, suspended_duration_seconds: 600, auto_resume_enabled: true };

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) vmm: Arc<FakeVmm>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) snapshots: Snapshots,
    /// Networks in use.
    pub(crate) networks: Arc<AtomicUsize>,
    /// Ways out of the networks that were made.
    pub(crate) egresses: Arc<Mutex<Vec<Egress>>>,
    /// Set to make the app of every guest end with this code.
    pub(crate) app_exit_tx: watch::Sender<Option<i32>>,
    /// What the app of every guest prints, with the position of its first byte; it is
    /// replaced as a whole.
    pub(crate) output_tx: watch::Sender<Vec<(u64, String)>>,
    /// The apps' hooks.
    pub(crate) hooks: Arc<Mutex<HookScript>>,
    /// The way to the apps past the agent.
    pub(crate) past_agent: Arc<Mutex<PastAgent>>,
    /// See [`TestAgent`].
    pub(crate) silent: Arc<AtomicBool>,
    pub(crate) unheard: Arc<AtomicUsize>,
    /// Set while guests are made that flood.
    pub(crate) flooding: Arc<AtomicBool>,
    pub(crate) flooded: Arc<AtomicUsize>,
    config: Box<dyn Fn() -> RegistryConfig>,
    arn: ImageArn,
    root: PathBuf,
    /// Goes with the world, if it is the world's own.
    _directory: Option<tempfile::TempDir>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_hooks(serde_json::Value::Null).await
    }

    /// The image wants these hooks called, within so many seconds each.
    pub(crate) async fn hooked(hooks: &[&str], seconds: u32) -> Self {
        let mut wanted = serde_json::Map::new();
        for hook in hooks {
            wanted.insert((*hook).to_owned(), "ENABLED".into());
            wanted.insert(format!("{hook}TimeoutInSeconds"), seconds.into());
        }
        Self::with_hooks(serde_json::json!({ "port": 9000, "microvmHooks": wanted })).await
    }

    async fn with_hooks(image_hooks: serde_json::Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let world = Self::at(directory.path(), "node").await;
        world.insert_image(image_hooks).await;
        Self { _directory: Some(directory), ..world }
    }

    /// A node on the records and files that are at `root`.
    pub(crate) async fn at(root: &Path, node: &str) -> Self {
        let hooks = Arc::default();
        let past_agent = Arc::default();
        let silent = Arc::default();
        let unheard = Arc::default();
        let flooding: Arc<AtomicBool> = Arc::default();
        let flooded = Arc::default();
        let store = Store::open_for_a_bench(&root.join("hearth.db")).await.unwrap();
        let vmm = Arc::new(FakeVmm::new());
        let egresses = Arc::<Mutex<Vec<_>>>::default();
        let (app_exit_tx, app_exit_rx) = watch::channel(None);
        let (output_tx, output_rx) = watch::channel(Vec::new());
        let agent = TestAgent {
            app_exit_rx,
            output_rx,
            hooks: Arc::clone(&hooks),
            past_agent: Arc::clone(&past_agent),
            silent: Arc::clone(&silent),
            unheard: Arc::clone(&unheard),
            floods: false,
            flooded: Arc::clone(&flooded),
        };
        let (ways_out, floods) = (egresses.clone(), flooding.clone());
        let test_networks = TestNetworks::new(move |egress| {
            ways_out.lock().unwrap().extend(egress);
            Ok(TestAgent { floods: floods.load(Ordering::SeqCst), ..agent.clone() })
        });
        let networks = test_networks.in_use();
        let uids = UidPool::new(100_000);
        let guests = guests::factory(&vmm, test_networks, uids, root.join("run").join(node));
        let snapshots = Snapshots::open(root).unwrap();
        let config: Box<dyn Fn() -> RegistryConfig> = {
            let (store, snapshots, node) = (store.clone(), snapshots.clone(), NodeId::from_stored(node));
            Box::new(move || RegistryConfig {
                node: node.clone(),
                records: Records::all_in(Arc::new(store.clone())),
                guests: guests.clone(),
                egresses: Egresses::new(Arc::new(store.clone())),
                snapshots: snapshots.clone(),
                vmm_overhead_mib: 64,
                hooks_port: hearth_lifecycle::HooksPort::Open,
                sealing: hearth_lifecycle::SealingKey::new(&[7; 32]).unwrap(),
            })
        };
        let registry = Registry::new(config());
        let arn = image_arn("000000000000", "app");
        Self {
            store,
            vmm,
            registry,
            snapshots,
            networks,
            egresses,
            app_exit_tx,
            output_tx,
            hooks,
            past_agent,
            silent,
            unheard,
            flooding,
            flooded,
            config,
            arn,
            root: root.to_owned(),
            _directory: None,
        }
    }

    /// What a registry of this world is made with.
    pub(crate) fn config(&self) -> RegistryConfig {
        (self.config)()
    }

    /// A registry that has looked at nothing yet.
    pub(crate) fn blind(&self) -> Arc<Registry> {
        Registry::new(self.config())
    }

    /// A registry whose records can be made to fail.
    pub(crate) fn with_records(&self, microvms: Arc<dyn Microvms>) -> Arc<Registry> {
        let mut config = (self.config)();
        config.records.microvms = microvms;
        Registry::new(config)
    }

    pub(crate) fn run_dir(&self, id: &MicrovmId) -> std::path::PathBuf {
        self.root.join("run").join(self.registry.id().as_str()).join(id.as_str())
    }

    /// A registry as after a restart of the service.
    pub(crate) async fn restarted(&self) -> Arc<Registry> {
        let registry = Registry::new((self.config)());
        hearth_lifecycle::recover::find(&registry).await.unwrap().finish(&registry).await;
        registry
    }

    /// An image with a real (tiny) base snapshot, made by the fake driver.
    async fn insert_image(&self, hooks: serde_json::Value) {
        let guests = self.config().guests;
        guests::publish_base(&guests, &self.snapshots, &self.arn, ImageVersion::FIRST).await;
        let mut new = built(self.arn.clone(), Timestamp::now());
        new.version.configuration.hooks = serde_json::from_value(hooks).unwrap();
        self.store.insert_image(&new, None, None, &Quotas::default()).await.unwrap();
    }

    /// Launches a microVM; its row is PENDING when this returns.
    pub(crate) async fn launch(&self, idle_policy: Option<IdlePolicy>) -> MicrovmId {
        self.launch_with(idle_policy, Vec::new()).await
    }

    /// The same with a payload for the run hook.
    pub(crate) async fn launch_with_payload(&self, payload: &str) -> MicrovmId {
        let record = self.insert(None, Vec::new(), Timestamp::now(), Some(payload)).await;
        let id = record.id.clone();
        self.registry.clone().launch(record, None);
        id
    }

    /// The same with egress connectors.
    pub(crate) async fn launch_with(
        &self,
        idle_policy: Option<IdlePolicy>,
        egress_network_connectors: Vec<String>,
    ) -> MicrovmId {
        let record = self.insert(idle_policy, egress_network_connectors, Timestamp::now(), None).await;
        let id = record.id.clone();
        self.registry.clone().launch(record, None);
        id
    }

    /// A microVM whose service is killed before it begins with the launch.
    pub(crate) async fn recorded(&self, idle_policy: Option<IdlePolicy>) -> MicrovmId {
        self.insert(idle_policy, Vec::new(), Timestamp::now(), None).await.id
    }

    /// The same, with a payload for its run hook.
    pub(crate) async fn recorded_with_payload(&self, payload: &str) -> MicrovmId {
        self.insert(None, Vec::new(), Timestamp::now(), Some(payload)).await.id
    }

    /// A microVM whose maximum duration is over.
    pub(crate) async fn recorded_long_ago(&self) -> MicrovmId {
        self.insert(None, Vec::new(), Timestamp::from_millis(0), None).await.id
    }

    /// Launches a version that is not the image's, as if it had been deleted meanwhile.
    pub(crate) async fn launch_version(&self, version: ImageVersion) -> MicrovmId {
        let mut record = self.insert(None, Vec::new(), Timestamp::now(), None).await;
        record.image_version = version;
        let id = record.id.clone();
        self.registry.clone().launch(record, None);
        id
    }

    async fn insert(
        &self,
        idle_policy: Option<IdlePolicy>,
        egress_network_connectors: Vec<String>,
        started_at: Timestamp,
        payload: Option<&str>,
    ) -> MicrovmRecord {
        let settings = MicrovmSettings {
            minimum_memory_mib: 2048,
            idle_policy,
            maximum_duration_in_seconds: 28_800,
            egress_network_connectors,
            ..settings()
        };
        let account = AccountId::from_stored("000000000000");
        let mut record = MicrovmRecord::pending(
            account,
            self.arn.clone(),
            ImageVersion::FIRST,
            settings,
            self.registry.id().clone(),
        );
        record.started_at = started_at;
        let sealed = payload.map(|payload| self.registry.seal_payload(&record.id, payload).unwrap());
        self.store.insert_microvm(&record, sealed.as_deref(), None, None, &Quotas::default()).await.unwrap();
        record
    }

    pub(crate) async fn running(&self, idle_policy: Option<IdlePolicy>) -> MicrovmId {
        let id = self.launch(idle_policy).await;
        self.wait_for(&id, MicrovmState::Running).await;
        id
    }

    /// Nothing of the microVM is left on the host.
    pub(crate) fn assert_released(&self, id: &MicrovmId) {
        assert!(self.vmm.vm(id.as_str()).is_none(), "a VM is left");
        assert_eq!(self.networks.load(Ordering::SeqCst), 0, "a network is left");
        assert!(!self.run_dir(id).exists(), "a run directory is left");
    }
}
