//! The stored rows as plain data.

use std::collections::BTreeMap;

use hearth_api::{
    AccountId, Architecture, BuildId, BuildState, EndpointLabel, IdlePolicy, ImageArn, ImageConfiguration,
    ImageState, ImageVersion, ImageVersionState, ImageVersionStatus, Logging, MicrovmId, MicrovmState,
    SizeClass, SnapshotBuild, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::logs::{Author, LogDestination, WrittenFor};

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// ARN: the key.
    pub arn: ImageArn,
    /// UUID shown as `id`.
    pub id: String,
    /// State.
    pub state: ImageState,
    /// Highest version that was ever begun.
    pub last_version: ImageVersion,
    /// Newest version that was built successfully and is ACTIVE.
    pub latest_active_version: Option<ImageVersion>,
    /// Newest version whose build failed.
    pub latest_failed_version: Option<ImageVersion>,
    /// Creation.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A version of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageVersionRecord {
    /// Image.
    pub arn: ImageArn,
    /// Version: with `arn` the key.
    pub version: ImageVersion,
    /// State.
    pub state: ImageVersionState,
    /// Whether it may be launched.
    pub status: ImageVersionStatus,
    /// What was asked for.
    pub configuration: ImageConfiguration,
    /// The app as the Dockerfile left it; set when the container build has succeeded.
    pub app: Option<AppRecord>,
    /// Creation.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

impl ImageVersionRecord {
    /// A version that is to be built.
    pub fn pending(
        arn: ImageArn,
        version: ImageVersion,
        configuration: ImageConfiguration,
        now: Timestamp,
    ) -> Self {
        Self {
            arn,
            version,
            state: ImageVersionState::Pending,
            status: ImageVersionStatus::Active,
            configuration,
            app: None,
            created_at: now,
            updated_at: now,
        }
    }
}

/// What a launch needs to know of the built app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRecord {
    /// Version of the guest artefacts (kernel, agent) that the snapshot was taken with.
    pub guest_key: String,
    /// vCPUs that the snapshot was taken with.
    pub vcpu_count: u8,
    /// Guest memory in MiB that the snapshot was taken with.
    pub memory_mib: u32,
    /// Bytes of output that the app had written when the snapshot was taken: they belong to the build's log.
    pub output_position: u64,
}

/// A build of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRecord {
    /// Image.
    pub arn: ImageArn,
    /// Version.
    pub version: ImageVersion,
    /// Id: the key.
    pub id: BuildId,
    /// State.
    pub state: BuildState,
    /// Architecture.
    pub architecture: Architecture,
    /// Why it failed.
    pub state_reason: Option<String>,
    /// Sizes.
    pub snapshot: Option<SnapshotBuild>,
    /// Creation.
    pub created_at: Timestamp,
}

impl BuildRecord {
    /// The build of a new version, for this host's architecture.
    pub fn pending(version: &ImageVersionRecord) -> Self {
        Self {
            arn: version.arn.clone(),
            version: version.version,
            id: BuildId::new(),
            state: BuildState::Pending,
            architecture: Architecture::host(),
            state_reason: None,
            snapshot: None,
            created_at: version.created_at,
        }
    }
}

/// A microVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MicrovmRecord {
    /// Id: the key.
    pub id: MicrovmId,
    /// Owner.
    pub account: AccountId,
    /// Image.
    pub image_arn: ImageArn,
    /// Version that was launched.
    pub image_version: ImageVersion,
    /// Public state.
    pub state: MicrovmState,
    /// Counts the writes of this row.
    pub generation: u64,
    /// Why it is in this state, where that needs saying.
    pub state_reason: Option<String>,
    /// First label of the endpoint's host name.
    pub endpoint_label: EndpointLabel,
    /// Start, set at creation.
    pub started_at: Timestamp,
    /// When it became SUSPENDED, while it is.
    pub suspended_at: Option<Timestamp>,
    /// End.
    pub terminated_at: Option<Timestamp>,
    /// What the caller of RunMicrovm fixed.
    pub settings: MicrovmSettings,
    /// How many times the tokens of its endpoint have been revoked.
    pub token_revocations: u64,
}

/// What lists show of a microVM.
#[derive(Debug, Clone)]
pub struct MicrovmSummary {
    /// Id: the key.
    pub id: MicrovmId,
    /// Image.
    pub image_arn: ImageArn,
    /// Version that was launched.
    pub image_version: ImageVersion,
    /// Public state.
    pub state: MicrovmState,
    /// Start.
    pub started_at: Timestamp,
}

impl MicrovmRecord {
    /// Where the app's output goes, or nothing when logging is disabled. A group or stream of the caller's choice is
    /// written on behalf of the execution role, as on the service ("Monitoring MicroVMs"), and without one on the caller's.
    pub fn log_destination(&self) -> Option<LogDestination> {
        let day = self.started_at.0.strftime("%Y/%m/%d");
        let stream = format!("{day}[{}]{}", self.image_version, self.id);
        let settings = &self.settings;
        let written_for = || match (&settings.execution_role_arn, &settings.run_by) {
            (Some(role), _) => WrittenFor::Role(role.clone()),
            (None, Some(author)) => WrittenFor::Author(author.clone()),
            (None, None) => WrittenFor::Nobody,
        };
        let logging = settings.logging.as_ref();
        LogDestination::new(logging, self.account.clone(), &self.image_arn, stream, written_for)
    }

    /// A new microVM: PENDING, started now, with an id and an endpoint of its own.
    pub fn pending(
        account: AccountId,
        image_arn: ImageArn,
        image_version: ImageVersion,
        settings: MicrovmSettings,
    ) -> Self {
        Self {
            id: MicrovmId::new(),
            account,
            image_arn,
            image_version,
            state: MicrovmState::Pending,
            generation: 0,
            state_reason: None,
            endpoint_label: EndpointLabel::new(),
            started_at: Timestamp::now(),
            suspended_at: None,
            terminated_at: None,
            settings,
            token_revocations: 0,
        }
    }
}

/// What the caller of RunMicrovm fixed for the microVM's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MicrovmSettings {
    /// Baseline memory in MiB, which counts for the quota; rows of before there were quotas have the default.
    #[serde(default = "default_memory_mib")]
    pub minimum_memory_mib: u32,
    /// Role of the app.
    pub execution_role_arn: Option<String>,
    /// Idle policy.
    pub idle_policy: Option<IdlePolicy>,
    /// Seconds from `started_at` to the end.
    pub maximum_duration_in_seconds: u32,
    /// Where the app's output goes.
    pub logging: Option<Logging>,
    /// Ingress connectors (ARNs).
    pub ingress_network_connectors: Vec<String>,
    /// Egress connectors (ARNs).
    pub egress_network_connectors: Vec<String>,
    /// Who ran it, where output goes to a group or stream of the caller's choice and no role is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_by: Option<Author>,
}

fn default_memory_mib() -> u32 {
    SizeClass::DEFAULT_MEMORY_MIB
}

/// An answer kept under a `clientToken`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenClaim {
    /// The token is new; the resource was recorded with it.
    Fresh,
    /// Same parameters: give this stored answer again.
    Replay(String),
    /// Other parameters under the same token.
    Mismatch,
}
