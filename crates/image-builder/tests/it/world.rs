//! An image builder whose build microVMs boot for ever: what comes before them, and what their end
//! leaves, is real.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hearth_api::{BuildId, ImageArn, ImageVersion, Timestamp};
use hearth_guest::UidPool;
use hearth_image_builder::{
    ArchiveLimits, ArtifactError, ArtifactSource, BaseImages, BaseImagesConfig, ImageBuilder,
    ImageBuilderConfig, Reader,
};
use hearth_records::testing::{begun, image_arn};
use hearth_records::{
    self as records, BuildRecord, EventOrder, Images as _, InsertedImage, LogPosition, LogQuery, Logs as _,
    NodeId, Quotas,
};
use hearth_snapshots::Snapshots;
use hearth_store_sqlite::Store;
use hearth_testkit::agent::NoAgent;
use hearth_testkit::guests;
use hearth_testkit::networks::TestNetworks;
use hearth_vmm::fake::FakeVmm;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use zip::write::SimpleFileOptions;

use crate::readers::with_program;

/// Whose builds the builder drives.
pub(crate) const NODE: &str = "node";

/// The builder with its parts at hand.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) builder: Arc<ImageBuilder>,
    pub(crate) snapshots: Snapshots,
    pub(crate) vmm: Arc<FakeVmm>,
    /// Networks that are in use.
    pub(crate) networks: Arc<AtomicUsize>,
    pub(crate) directory: tempfile::TempDir,
    artifacts: Arc<Artifacts>,
}

/// An image that is being built.
pub(crate) struct Building {
    pub(crate) arn: ImageArn,
    pub(crate) build: BuildId,
    pub(crate) cache: PathBuf,
}

/// Zips by the name of their image.
#[derive(Debug, Default)]
struct Artifacts(Mutex<HashMap<String, Vec<u8>>>);

#[async_trait]
impl ArtifactSource for Artifacts {
    async fn fetch(
        &self,
        _: Reader<'_>,
        _: &str,
        key: &str,
        to: &Path,
        _: u64,
    ) -> Result<u64, ArtifactError> {
        let zip = self.0.lock().unwrap().get(key).cloned().ok_or(ArtifactError::NoSuchKey)?;
        std::fs::write(to, &zip).map_err(ArtifactError::Io)?;
        Ok(zip.len() as u64)
    }
}

#[expect(unsafe_code, reason = "rustix asks for it")]
fn namespace() -> OwnedFd {
    std::thread::spawn(|| {
        // SAFETY: a network namespace of a thread of its own concerns no memory and no descriptor.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
        File::open("/proc/thread-self/ns/net").unwrap().into()
    })
    .join()
    .unwrap()
}

impl World {
    /// With one place for builds, the image `prepared:1` at hand, and images of `slow.test` at
    /// `registry`. `None` without root.
    pub(crate) async fn new(
        first_uid: u32,
        registry: Option<std::net::SocketAddr>,
        change: impl FnOnce(&mut ImageBuilderConfig),
    ) -> Option<Self> {
        let program = Path::new(env!("CARGO_BIN_EXE_hearth-image-builder-test"));
        let readers = with_program(program, first_uid)?;
        let directory = tempfile::tempdir().unwrap();
        let below = |name: &str| directory.path().join(name);
        let prepared =
            serde_json::json!([{ "reference": "docker.io/library/prepared:1", "store": "/nonexistent" }]);
        std::fs::write(below("mirror.json"), prepared.to_string()).unwrap();
        let mut base_images =
            BaseImagesConfig::new(below("mirror.json"), below("no-tool"), below("base-images"));
        base_images.pull_program = program.into();
        base_images.registry_mirrors =
            registry.iter().map(|address| ("slow.test".to_owned(), format!("http://{address}"))).collect();
        let store = Store::temporary().await.unwrap();
        let vmm = Arc::new(FakeVmm::new());
        let artifacts = Arc::new(Artifacts::default());
        let snapshots = Snapshots::open(directory.path()).unwrap();
        // A namespace that leads nowhere, and no agent.
        let networks = TestNetworks::new(|_| Ok(NoAgent)).within(namespace());
        let in_use = networks.in_use();
        let guests = guests::factory(&vmm, networks, UidPool::new(first_uid + 0x1000), below("run"));
        let mut config = ImageBuilderConfig {
            node: NodeId::from_stored(NODE),
            store: Arc::new(store.clone()),
            guests,
            egresses: hearth_egress::Egresses::new(Arc::new(store.clone())),
            snapshots: snapshots.clone(),
            base_images: BaseImages::new(base_images),
            artifacts: artifacts.clone(),
            readers,
            archive_limits: ArchiveLimits::default(),
            ca_bundle: None,
            account_bytes: 64 << 20,
            free_bytes: 0,
            concurrent_builds: 1,
            concurrent_builds_per_account: 1,
            build_vcpus: 4,
            build_memory_mib: 512,
            build_timeout_seconds: 60,
            listen_timeout_seconds: 1,
            refuse_findings: false,
            any_architecture: false,
        };
        change(&mut config);
        let builder = ImageBuilder::new(config);
        Some(Self { store, builder, snapshots, vmm, networks: in_use, directory, artifacts })
    }

    /// Records the first build of an image, for a node to start.
    pub(crate) async fn recorded(
        &self,
        account: &str,
        name: &str,
        dockerfile: &str,
        node: &str,
    ) -> records::Building {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file("Dockerfile", SimpleFileOptions::default()).unwrap();
        zip.write_all(dockerfile.as_bytes()).unwrap();
        self.artifacts.0.lock().unwrap().insert(name.to_owned(), zip.finish().unwrap().into_inner());

        let arn = image_arn(account, name);
        let new = begun(arn, NodeId::from_stored(node), Timestamp::now());
        let inserted = self.store.insert_image(&new, None, None, &Quotas::default()).await;
        assert!(matches!(inserted.unwrap(), InsertedImage::Inserted));
        new
    }

    /// Starts the first build of an image, as CreateMicrovmImage does.
    pub(crate) async fn build(&self, account: &str, name: &str, dockerfile: &str) -> Building {
        let new = self.recorded(account, name, dockerfile, NODE).await;
        let arn = new.image.arn.clone();
        let cache = self.snapshots.build_cache(&arn, &new.image.id);
        let building = Building { arn, build: new.build.id.clone(), cache };
        self.builder.start(new);
        building
    }

    /// The scratch directory of a build.
    pub(crate) fn scratch(&self, building: &Building) -> PathBuf {
        self.snapshots.build(&building.build).directory().to_owned()
    }

    /// Where the first version of an image has what it keeps.
    pub(crate) fn version_directory(&self, arn: &ImageArn) -> PathBuf {
        self.directory.path().join(format!("images/{}/{}/1.0", arn.account, arn.name))
    }

    /// Whether the microVM runs that a build's Dockerfile is run in.
    pub(crate) fn runs(&self, building: &Building) -> bool {
        self.vmm.vm(&format!("build-{}", building.build)).is_some()
    }

    /// The record of a build.
    pub(crate) async fn record(&self, building: &Building) -> BuildRecord {
        let found = self.store.build(&building.arn, ImageVersion::FIRST, &building.build).await;
        found.unwrap().unwrap()
    }

    /// What was written to the log of an image's builds.
    pub(crate) async fn log(&self, arn: &ImageArn) -> Vec<String> {
        let query = LogQuery {
            account: &arn.account,
            group: &format!("/aws/lambda-microvms/{}", arn.name),
            stream: None,
            after: LogPosition::START,
            before: LogPosition::END,
            order: EventOrder::Oldest,
            limit: 100,
        };
        let page = self.store.log_events(&query).await.unwrap();
        page.into_iter().flat_map(|page| page.events).map(|event| event.message).collect()
    }
}
