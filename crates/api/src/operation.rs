//! Requests and answers of the operations, member by member as they are in JSON bodies.
//!
//! Members of type `()` are ones that the service always sends as `null` (recorded exchanges).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Architecture, BuildId, BuildState, Chipset, CpuConfiguration, IdlePolicy, ImageArn, ImageConfiguration,
    ImageName, ImageState, ImageVersion, ImageVersionState, ImageVersionStatus, Logging, MicrovmId,
    MicrovmState, PortSpecification, SnapshotBuild, Timestamp,
};

/// CreateMicrovmImage, request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateMicrovmImageRequest {
    /// A customer managed key. There is no key service here: it is checked and refused,
    /// never dropped silently.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key_identifier: Option<String>,
    /// Name, unique in the account.
    pub name: ImageName,
    /// Tags.
    pub tags: Option<BTreeMap<String, String>>,
    /// Makes the call repeatable.
    pub client_token: Option<String>,
    /// What the version fixes.
    #[serde(flatten)]
    pub configuration: ImageConfiguration,
}

/// CreateMicrovmImage, answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateMicrovmImageResponse {
    /// Everything that the answer of UpdateMicrovmImage has.
    #[serde(flatten)]
    pub image: MicrovmImageDescription,
    /// Tags, if some were given.
    pub tags: Option<BTreeMap<String, String>>,
}

/// UpdateMicrovmImage, request. Nothing is taken from the version before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateMicrovmImageRequest {
    /// A customer managed key. There is no key service here: it is checked and refused,
    /// never dropped silently.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key_identifier: Option<String>,
    /// Makes the call repeatable.
    pub client_token: Option<String>,
    /// What the version fixes.
    #[serde(flatten)]
    pub configuration: ImageConfiguration,
}

/// An image with the version that is being built: UpdateMicrovmImage, answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MicrovmImageDescription {
    /// Always null: nothing is sealed with a customer managed key.
    #[serde(default)]
    pub kms_key_identifier: (),
    /// ARN.
    pub image_arn: ImageArn,
    /// UUID.
    pub id: String,
    /// Name.
    pub name: ImageName,
    /// State.
    pub state: ImageState,
    /// Version being built.
    pub image_version: ImageVersion,
    /// Version that a launch takes until that is built.
    pub latest_active_image_version: Option<ImageVersion>,
    /// Version that failed last.
    pub latest_failed_image_version: Option<ImageVersion>,
    /// Creation.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// What was asked for, with defaults filled in.
    #[serde(flatten)]
    pub configuration: ImageConfiguration,
    /// Always null.
    #[serde(default)]
    pub build_phase_overrides: (),
    /// Always null.
    #[serde(default)]
    pub role_configuration: (),
}

/// UpdateMicrovmImageVersion, request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateMicrovmImageVersionRequest {
    /// Whether it may be launched.
    pub status: ImageVersionStatus,
}

/// DeleteMicrovmImageVersion, answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteMicrovmImageVersionResponse {
    /// Image.
    pub image_identifier: ImageArn,
    /// Version.
    pub image_version: ImageVersion,
    /// DELETING.
    pub state: ImageVersionState,
}

/// Tags of a resource: request of TagResource, answer of ListTags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tags {
    /// Keys and values.
    pub tags: BTreeMap<String, String>,
}

/// GetMicrovmImage, answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetMicrovmImageResponse {
    /// Members that the list has too.
    #[serde(flatten)]
    pub summary: MicrovmImageSummary,
    /// Last change.
    pub updated_at: Timestamp,
    /// Tags; empty when there are none.
    pub tags: BTreeMap<String, String>,
}

/// Item of ListMicrovmImages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MicrovmImageSummary {
    /// ARN.
    pub image_arn: ImageArn,
    /// UUID.
    pub id: String,
    /// Name.
    pub name: ImageName,
    /// State.
    pub state: ImageState,
    /// Version that a launch takes.
    pub latest_active_image_version: Option<ImageVersion>,
    /// Version that failed last.
    pub latest_failed_image_version: Option<ImageVersion>,
    /// Creation.
    pub created_at: Timestamp,
}

/// DeleteMicrovmImage, answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteMicrovmImageResponse {
    /// ARN.
    pub image_identifier: ImageArn,
    /// DELETING.
    pub state: ImageState,
}

/// GetMicrovmImageVersion, answer, and item of ListMicrovmImageVersions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MicrovmImageVersionDescription {
    /// Always null: nothing is sealed with a customer managed key.
    #[serde(default)]
    pub kms_key_identifier: (),
    /// Image.
    pub image_arn: ImageArn,
    /// Version.
    pub image_version: ImageVersion,
    /// State.
    pub state: ImageVersionState,
    /// Always null: the reason of a failure is on the build.
    #[serde(default)]
    pub state_reason: (),
    /// Whether it may be launched.
    pub status: ImageVersionStatus,
    /// `<state>#<yymmddhh>` of the last change.
    pub version_state_time_bucket: String,
    /// Creation.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// Always null.
    #[serde(default)]
    pub tags: (),
    /// What was asked for, with defaults filled in.
    #[serde(flatten)]
    pub configuration: ImageConfiguration,
}

/// Item of ListMicrovmImageBuilds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MicrovmImageBuildSummary {
    /// Image.
    pub image_arn: ImageArn,
    /// Version.
    pub image_version: ImageVersion,
    /// Build.
    pub build_id: BuildId,
    /// State.
    pub build_state: BuildState,
    /// Architecture.
    pub architecture: Architecture,
    /// CPU family.
    pub chipset: Chipset,
    /// CPU generation.
    pub chipset_generation: String,
    /// Why it failed.
    pub state_reason: Option<String>,
    /// Always null.
    #[serde(default)]
    pub termination_reason_code: (),
    /// Creation.
    pub created_at: Timestamp,
}

/// GetMicrovmImageBuild, answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetMicrovmImageBuildResponse {
    /// Members that the list has too.
    #[serde(flatten)]
    pub summary: MicrovmImageBuildSummary,
    /// Sizes, as far as the build came.
    pub snapshot_build: Option<SnapshotBuild>,
}

/// Item of ListManagedMicrovmImages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedMicrovmImageSummary {
    /// ARN, with account `aws`.
    pub image_arn: String,
    /// First version's date.
    pub created_at: Timestamp,
    /// Newest version's date.
    pub updated_at: Timestamp,
}

/// Item of ListManagedMicrovmImageVersions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedMicrovmImageVersion {
    /// ARN, with account `aws`.
    pub image_arn: String,
    /// A bare number, such as `1`.
    pub image_version: String,
    /// `AVAILABLE`, `DEPRECATED` or `RECALLED`.
    pub status: String,
    /// Architectures that can be built on it.
    pub supported_cpu_configurations: Vec<CpuConfiguration>,
    /// Creation.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

/// RunMicrovm, request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunMicrovmRequest {
    /// A customer managed key. There is no key service here: it is checked and refused,
    /// never dropped silently.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key_identifier: Option<String>,
    /// ARN of the image.
    pub image_identifier: String,
    /// Version; the newest active one when not given.
    pub image_version: Option<String>,
    /// Role of the app.
    pub execution_role_arn: Option<String>,
    /// Idle policy.
    pub idle_policy: Option<IdlePolicy>,
    /// Where the app's output goes.
    pub logging: Option<Logging>,
    /// Passed to the run hook as it is.
    pub run_hook_payload: Option<String>,
    /// Seconds until the end; 28800 when not given.
    pub maximum_duration_in_seconds: Option<u32>,
    /// Ingress connectors (ARNs).
    pub ingress_network_connectors: Option<Vec<String>>,
    /// Egress connectors (ARNs).
    pub egress_network_connectors: Option<Vec<String>>,
    /// Makes the call repeatable.
    pub client_token: Option<String>,
}

/// RunMicrovm and GetMicrovm, answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MicrovmDescription {
    /// Always null: nothing is sealed with a customer managed key.
    #[serde(default)]
    pub kms_key_identifier: (),
    /// Id.
    pub microvm_id: MicrovmId,
    /// State.
    pub state: MicrovmState,
    /// Host name of the endpoint, without scheme; with `:port` when that is not 443.
    pub endpoint: String,
    /// Image.
    pub image_arn: ImageArn,
    /// Version.
    pub image_version: ImageVersion,
    /// Role of the app.
    pub execution_role_arn: Option<String>,
    /// Idle policy.
    pub idle_policy: Option<IdlePolicy>,
    /// Seconds from start to end.
    pub maximum_duration_in_seconds: u32,
    /// Start.
    pub started_at: Timestamp,
    /// End.
    pub terminated_at: Option<Timestamp>,
    /// Why it is in its state.
    pub state_reason: Option<String>,
    /// Always null.
    #[serde(default)]
    pub termination_reason_code: (),
    /// Ingress connectors (ARNs).
    pub ingress_network_connectors: Vec<String>,
    /// Egress connectors (ARNs).
    pub egress_network_connectors: Vec<String>,
}

/// Item of ListMicrovms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MicrovmItem {
    /// Id.
    pub microvm_id: MicrovmId,
    /// State.
    pub state: MicrovmState,
    /// Image.
    pub image_arn: ImageArn,
    /// Version.
    pub image_version: ImageVersion,
    /// Start.
    pub started_at: Timestamp,
}

/// CreateMicrovmAuthToken, request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateMicrovmAuthTokenRequest {
    /// Minutes of validity, at most 60.
    pub expiration_in_minutes: u32,
    /// Ports that the token opens.
    pub allowed_ports: Vec<PortSpecification>,
}

/// CreateMicrovmShellAuthToken, request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateMicrovmShellAuthTokenRequest {
    /// Minutes of validity, at most 60.
    pub expiration_in_minutes: u32,
}

/// CreateMicrovmAuthToken and CreateMicrovmShellAuthToken, answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateMicrovmAuthTokenResponse {
    /// Headers to send: exactly `X-aws-proxy-auth`.
    pub auth_token: BTreeMap<String, String>,
}

/// Answer of every list operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// Items.
    pub items: Vec<T>,
    /// Where the next page begins, if there is one.
    pub next_token: Option<String>,
}
