//! Images, their versions and builds.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use hearth_api::{
    AccountId, Architecture, BuildId, BuildState, ImageArn, ImageConfiguration, ImageState, ImageVersion,
    ImageVersionState, ImageVersionStatus, SnapshotBuild, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::quotas::{Quota, Quotas};
use crate::tokens::{ClientToken, TokenClaim};

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
    /// Bytes of output that the app had written when the snapshot was taken: they belong to the
    /// build's log.
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

/// What became of a new image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InsertedImage {
    /// The rows are there.
    Inserted,
    /// The account has an image of that name.
    NameTaken,
    /// The account has as much as it may have.
    QuotaExceeded(Quota),
    /// The client token was used before.
    Token(TokenClaim),
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is done, or has begun.
    Made,
    /// There is no such image or version.
    NotFound,
    /// The image is in this state, in which it cannot be changed.
    Busy(ImageState),
    /// MicroVMs of it have not ended.
    InUse,
    /// It is the only version.
    LastVersion,
}

/// What became of an update of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BegunUpdate {
    /// It has begun, or the image does not allow it.
    Changed(Change),
    /// The account has as much as it may have.
    QuotaExceeded(Quota),
    /// The client token was used before.
    Token(TokenClaim),
}

/// Versions of images, as they are kept.
#[async_trait]
pub trait ImageVersions: Send + Sync + fmt::Debug {
    /// One version.
    async fn image_version(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
    ) -> Result<Option<ImageVersionRecord>>;

    /// All versions of an image, newest first.
    async fn image_versions(&self, arn: &ImageArn) -> Result<Vec<ImageVersionRecord>>;
}

/// Images, their versions and builds, as they are kept.
#[async_trait]
pub trait Images: ImageVersions {
    /// Records a new image with its first version and build, together with its client token.
    async fn insert_image(
        &self,
        image: &ImageRecord,
        version: &ImageVersionRecord,
        build: &BuildRecord,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<InsertedImage>;

    /// One image.
    async fn image(&self, arn: &ImageArn) -> Result<Option<ImageRecord>>;

    /// At most `limit` images of an account by name, behind the name `after`.
    async fn images(&self, account: &AccountId, after: Option<&str>, limit: u32) -> Result<Vec<ImageRecord>>;

    /// Every image, of all accounts.
    async fn all_images(&self) -> Result<Vec<ImageRecord>>;

    /// Writes what the end of a build changes: of the build, its version and its image, all at
    /// once, so that whoever sees one settled finds the others settled.
    async fn finish_build(
        &self,
        image: &ImageRecord,
        version: &ImageVersionRecord,
        build: &BuildRecord,
    ) -> Result<()>;

    /// Writes what the begin of a build changes.
    async fn begin_build(&self, version: &ImageVersionRecord, build: &BuildRecord) -> Result<()>;

    /// Removes an image with its versions and builds.
    async fn delete_image(&self, arn: &ImageArn) -> Result<()>;

    /// Every version that is being deleted, of all images.
    async fn unfinished_deletions(&self) -> Result<Vec<(ImageArn, ImageVersion)>>;

    /// All builds of a version, newest first.
    async fn builds(&self, arn: &ImageArn, version: ImageVersion) -> Result<Vec<BuildRecord>>;

    /// One build.
    async fn build(&self, arn: &ImageArn, version: ImageVersion, id: &BuildId)
    -> Result<Option<BuildRecord>>;

    /// Every build that is not over, of all accounts.
    async fn unfinished_builds(&self) -> Result<Vec<BuildRecord>>;

    /// Begins an update: `image` is UPDATING and counts one version more than it did, `version` and
    /// `build` are new.
    async fn begin_update(
        &self,
        image: &ImageRecord,
        version: &ImageVersionRecord,
        build: &BuildRecord,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<BegunUpdate>;

    /// Lets a version be launched, or no longer.
    async fn set_version_status(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        status: ImageVersionStatus,
        now: Timestamp,
    ) -> Result<Change>;

    /// Marks a version DELETING and its image UPDATING. From then on it is not launched.
    async fn begin_version_deletion(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        now: Timestamp,
    ) -> Result<Change>;

    /// Removes a version that is DELETING, with its builds; its image is UPDATED.
    async fn finish_version_deletion(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        now: Timestamp,
    ) -> Result<()>;

    /// Marks an image DELETING. From then on none of its versions is launched.
    async fn begin_image_deletion(&self, arn: &ImageArn, now: Timestamp) -> Result<Change>;
}
