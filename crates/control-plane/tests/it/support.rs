//! A router over an in-memory database, and signed requests to it.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use hearth_api::{
    AccountId, BuildId, EndpointCounters, EndpointTokenKeys, ImageArn, ImageVersion, MicrovmId, MicrovmState,
    SnapshotBuild, Timestamp,
};
use hearth_auth::{TokenKey, TokenKeys};
use hearth_confined::Confinement;
use hearth_control_plane::{ControlPlaneConfig, Endpoints, Rates, RotationError, Services};
use hearth_guest::UidPool;
use hearth_identity::{Identities, RootKey};
use hearth_image_builder::{
    ArchiveLimits, ArtifactError, ArtifactSource, BaseImages, BaseImagesConfig, ImageBuilder,
    ImageBuilderConfig, Reader, Readers,
};
use hearth_lifecycle::{Registry, RegistryConfig};
use hearth_records::{
    CurrentLimits, ImageVersionRecord, Images as _, MicrovmRecord, MicrovmSettings, Microvms as _, Quotas,
    testing,
};
use hearth_snapshots::Snapshots;
use hearth_store_sqlite::Store;
use hearth_testkit::agent::NoAgent;
use hearth_testkit::guests;
use hearth_testkit::networks::TestNetworks;
use hearth_testkit::requests::Keys;
pub(crate) use hearth_testkit::requests::{ACCOUNT, REGION};
use hearth_testkit::waiting::eventually;
use hearth_vmm::fake::FakeVmm;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// The API with its parts at hand.
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) token_keys: Arc<TokenKeys>,
    pub(crate) identities: Arc<Identities>,
    pub(crate) router: axum::Router,
    pub(crate) directory: tempfile::TempDir,
}

/// An answer with its body read.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    /// `x-amzn-errortype`, empty on success.
    pub(crate) fn error_type(&self) -> &str {
        self.headers.get("x-amzn-errortype").map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or("")
    }
}

#[derive(Debug)]
struct NoArtifacts;

#[async_trait]
impl ArtifactSource for NoArtifacts {
    async fn fetch(
        &self,
        _: Reader<'_>,
        _: &str,
        _: &str,
        _: &std::path::Path,
        _: u64,
    ) -> Result<u64, ArtifactError> {
        Err(ArtifactError::NoSuchKey)
    }
}

/// Endpoints that were used as often as the microVM's id is long, and whose keys cannot be written.
#[derive(Debug)]
struct FakeEndpoints;

#[async_trait::async_trait]
impl Endpoints for FakeEndpoints {
    fn counters(&self, microvm: &MicrovmId) -> EndpointCounters {
        EndpointCounters {
            since: Timestamp::from_millis(1_700_000_000_000),
            requests: microvm.as_str().len() as u64,
            errors: 0,
            resume_waits: 1,
            resume_wait_milliseconds: 2,
            bytes_in: 3,
            bytes_out: 4,
        }
    }

    async fn rotate_token_keys(&self) -> Result<EndpointTokenKeys, RotationError> {
        Err(RotationError::TooOften { rotations: 8 })
    }
}

/// Changes the quotas that a server is to have.
pub(crate) fn limit(config: &ControlPlaneConfig, change: impl FnOnce(&mut Quotas)) {
    let mut limits = config.limits.get();
    change(&mut limits.quotas);
    config.limits.set(limits);
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ControlPlaneConfig)) -> Self {
        Self::start_on(Store::temporary().await.unwrap(), change).await
    }

    /// The same with records of one's own.
    pub(crate) async fn start_on(store: Store, change: impl FnOnce(&mut ControlPlaneConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = PathBuf::from("/nonexistent");
        let networks = TestNetworks::new(|_| -> std::io::Result<NoAgent> {
            Err(std::io::Error::other("this host has no networks to give"))
        });
        let guests = guests::factory(
            &Arc::new(FakeVmm::new()),
            networks,
            UidPool::new(100_000),
            directory.path().join("run"),
        );
        let snapshots = Snapshots::open(directory.path()).unwrap();
        let egresses = hearth_egress::Egresses::new(Arc::new(store.clone()));
        let registry = Registry::new(RegistryConfig {
            sealing: hearth_lifecycle::SealingKey::new(&[7; 32]).unwrap(),
            node: hearth_records::NodeId::from_stored("node"),
            records: hearth_lifecycle::records::Records::all_in(Arc::new(store.clone())),
            guests: guests.clone(),
            egresses: egresses.clone(),
            snapshots: snapshots.clone(),
            vmm_overhead_mib: 64,
            hooks_port: hearth_lifecycle::HooksPort::Open,
        });
        let image_builder = ImageBuilder::new(ImageBuilderConfig {
            node: hearth_records::NodeId::from_stored("node"),
            store: Arc::new(store.clone()),
            guests,
            egresses,
            snapshots,
            base_images: BaseImages::new(BaseImagesConfig::new(nowhere.clone(), nowhere.clone(), nowhere)),
            artifacts: Arc::new(NoArtifacts),
            readers: Readers::new(Confinement::new(UidPool::new(200_000))),
            archive_limits: ArchiveLimits::default(),
            ca_bundle: None,
            account_bytes: 1 << 20,
            free_bytes: 0,
            concurrent_builds: 1,
            concurrent_builds_per_account: 1,
            build_vcpus: 4,
            build_memory_mib: 512,
            build_timeout_seconds: 60,
            listen_timeout_seconds: 1,
            refuse_findings: false,
            any_architecture: false,
        });
        let account = AccountId::from_stored(ACCOUNT);
        let root = RootKey { account, access_key: "AKID".to_owned(), secret: "secret".to_owned() };
        let identities = Arc::new(Identities::open(Arc::new(store.clone()), vec![root]).await.unwrap());
        let token_key = TokenKey { kid: uuid::Uuid::from_bytes([1; 16]), secret: [7; 32] };
        let token_keys = Arc::new(TokenKeys::new(token_key, Vec::new()));
        let mut config = ControlPlaneConfig {
            operator: AccountId::from_stored(ACCOUNT),
            region: REGION.to_owned(),
            endpoint_domain: "localhost".to_owned(),
            endpoint_port: 443,
            minimum_idle_seconds: 60,
            maximum_duration_seconds: 28_800,
            lenient_image_names: false,
            default_egress: hearth_control_plane::DefaultEgress::default(),
            any_architecture: false,
            limits: CurrentLimits::default(),
            rates: Rates::default(),
            minimum_available_memory_mib: 0,
        };
        change(&mut config);
        let services = Services {
            store: Arc::new(store.clone()),
            node: registry,
            image_builder,
            identities: identities.clone(),
            token_keys: token_keys.clone(),
            endpoints: Arc::new(FakeEndpoints),
        };
        let router = hearth_control_plane::router(config, services);
        Self { store, token_keys, identities, router, directory }
    }

    /// Calls an operation under `/2025-09-09/`.
    pub(crate) async fn call(&self, method: &str, target: &str, body: Value) -> Reply {
        self.call_at(method, &format!("/2025-09-09/{target}"), body).await
    }

    /// Calls an operation by its whole path.
    pub(crate) async fn call_at(&self, method: &str, target: &str, body: Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(signed("secret", "lambda", method, target, body.as_bytes())).await
    }

    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.call("GET", target, Value::Null).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert!(parts.headers.contains_key("x-amzn-requestid"));
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        Reply { status: parts.status, headers: parts.headers, body }
    }

    /// Gets `target` until `done`; fails after the deadline.
    pub(crate) async fn wait(&self, target: &str, done: impl Fn(&Value) -> bool) -> Value {
        let look = async || {
            let body = self.get(target).await.body;
            if done(&body) { Ok(body) } else { Err(body) }
        };
        eventually(target, look).await
    }

    /// Records a microVM in this state that nobody drives.
    pub(crate) async fn recorded_microvm(&self, state: MicrovmState) -> MicrovmId {
        self.recorded_microvm_with(state, &[]).await
    }

    /// The same with these managed ingress connectors.
    pub(crate) async fn recorded_microvm_with(&self, state: MicrovmState, ingress: &[&str]) -> MicrovmId {
        let settings = MicrovmSettings {
            minimum_memory_mib: 2048,
            maximum_duration_in_seconds: 28_800,
            ingress_network_connectors: ingress
                .iter()
                .map(|name| hearth_api::managed_connector_arn(REGION, name))
                .collect(),
            ..testing::settings()
        };
        let image = ImageArn::parse(&image_arn("app")).unwrap();
        let ended = state == MicrovmState::Terminated;
        let record = MicrovmRecord {
            state,
            terminated_at: ended.then(|| Timestamp::from_millis(1_700_000_001_000)),
            started_at: Timestamp::from_millis(1_700_000_000_000),
            ..MicrovmRecord::pending(
                AccountId::from_stored(ACCOUNT),
                image,
                ImageVersion::FIRST,
                settings,
                hearth_records::NodeId::from_stored("node"),
            )
        };
        self.store.insert_microvm(&record, None, None, None, &Quotas::default()).await.unwrap();
        record.id
    }

    /// Records an image with one version as if it had been built.
    pub(crate) async fn built_image(
        &self,
        name: &str,
        change: impl FnOnce(&mut ImageVersionRecord),
    ) -> ImageArn {
        let arn = ImageArn::parse(&image_arn(name)).unwrap();
        let mut new = testing::built(arn.clone(), Timestamp::from_millis(1_700_000_000_000));
        new.version.configuration = serde_json::from_value(configuration()).unwrap();
        new.version.app = None;
        change(&mut new.version);
        new.image.tags = [("team".to_owned(), "a".to_owned())].into();
        new.build.id = BuildId::from_stored(format!("build-of-{name}"));
        new.build.snapshot = Some(SnapshotBuild {
            memory_snapshot_size_in_bytes: Some(3),
            code_install_size_in_bytes: Some(2),
            disk_snapshot_size_in_bytes: Some(1),
        });
        self.store.insert_image(&new, None, None, &Quotas::default()).await.unwrap();
        arn
    }
}

pub(crate) fn image_arn(name: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:microvm-image:{name}")
}

/// The members that CreateMicrovmImage requires, but for the name.
pub(crate) fn configuration() -> Value {
    json!({
        "baseImageArn": format!("arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1"),
        "buildRoleArn": format!("arn:aws:iam::{ACCOUNT}:role/build"),
        "codeArtifact": { "uri": "s3://bucket/code.zip" },
    })
}

/// `base` with the members of `extra`.
pub(crate) fn with(mut base: Value, extra: Value) -> Value {
    let Value::Object(extra) = extra else { panic!("not an object: {extra}") };
    base.as_object_mut().unwrap().extend(extra);
    base
}

/// A request signed as the root user, whose secret is `secret`.
pub(crate) fn signed(secret: &str, service: &str, method: &str, target: &str, body: &[u8]) -> Request<Body> {
    signed_by("AKID", secret, service, method, target, body)
}

pub(crate) fn signed_by(
    access_key: &str,
    secret: &str,
    service: &str,
    method: &str,
    target: &str,
    body: &[u8],
) -> Request<Body> {
    Keys::new(access_key, secret).sign(service, method, target, &[], body)
}
