//! Images, their versions and builds.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use hearth_api::{
    AccountId, Architecture, BuildId, BuildState, ImageArn, ImageConfiguration, ImageState, ImageVersion,
    ImageVersionState, ImageVersionStatus, SnapshotBuild, Timestamp,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Result;
use crate::events::{Actor, Origin};
use crate::owner::{NodeId, Owner, Written};
use crate::quotas::{Quota, Quotas};
use crate::tokens::{ClientToken, TokenClaim};

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// ARN: the key.
    pub arn: ImageArn,
    /// UUID shown as `id`.
    pub id: String,
    /// Counts the changes of this record, but for its tags.
    pub generation: u64,
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

impl ImageRecord {
    /// What it becomes with a change that brings it into this state.
    #[must_use]
    pub fn entering(&self, state: ImageState, now: Timestamp) -> Self {
        Self { generation: self.generation + 1, state, updated_at: now, ..self.clone() }
    }

    /// Whether nothing is being done with it, so that something may begin.
    pub fn is_settled(&self) -> bool {
        !matches!(
            self.state,
            ImageState::Creating | ImageState::Updating | ImageState::Deleting | ImageState::Deleted
        )
    }
}

/// A version of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageVersionRecord {
    /// Image.
    pub arn: ImageArn,
    /// Version: with `arn` the key.
    pub version: ImageVersion,
    /// Counts the changes of this record.
    pub generation: u64,
    /// Who works on it, or did last.
    pub owner: Owner,
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
    /// A version that this node is to build.
    pub fn pending(
        arn: ImageArn,
        version: ImageVersion,
        configuration: ImageConfiguration,
        node: NodeId,
        now: Timestamp,
    ) -> Self {
        Self {
            arn,
            version,
            generation: 0,
            owner: Owner::first(node),
            state: ImageVersionState::Pending,
            status: ImageVersionStatus::Active,
            configuration,
            app: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// What it becomes with a change that brings it into this state.
    #[must_use]
    pub fn entering(&self, state: ImageVersionState, now: Timestamp) -> Self {
        Self { generation: self.generation + 1, state, updated_at: now, ..self.clone() }
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
    /// Counts the changes of this record.
    pub generation: u64,
    /// Who drives it.
    pub owner: Owner,
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
    /// The build of a new version by the version's owner, for this host's architecture.
    pub fn pending(version: &ImageVersionRecord) -> Self {
        Self {
            arn: version.arn.clone(),
            version: version.version,
            id: BuildId::new(),
            generation: 0,
            owner: version.owner.clone(),
            state: BuildState::Pending,
            architecture: Architecture::host(),
            state_reason: None,
            snapshot: None,
            created_at: version.created_at,
        }
    }

    /// What it becomes with a change that brings it into this state.
    #[must_use]
    pub fn entering(&self, state: BuildState) -> Self {
        Self { generation: self.generation + 1, state, ..self.clone() }
    }
}

/// An image, a version of it and a build of that: what a build changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Building {
    /// The image.
    pub image: ImageRecord,
    /// Its version.
    pub version: ImageVersionRecord,
    /// The version's build.
    pub build: BuildRecord,
}

impl Building {
    /// The first build of a new image, by this node.
    pub fn first(
        arn: ImageArn,
        tags: BTreeMap<String, String>,
        configuration: ImageConfiguration,
        node: NodeId,
        now: Timestamp,
    ) -> Self {
        let image = ImageRecord {
            arn: arn.clone(),
            id: Uuid::new_v4().to_string(),
            generation: 0,
            state: ImageState::Creating,
            last_version: ImageVersion::FIRST,
            latest_active_version: None,
            latest_failed_version: None,
            created_at: now,
            updated_at: now,
            tags,
        };
        let version = ImageVersionRecord::pending(arn, ImageVersion::FIRST, configuration, node, now);
        Self { image, build: BuildRecord::pending(&version), version }
    }

    /// This build after `node` has claimed it: version and build have that owner.
    #[must_use]
    pub fn claimed_by(&self, node: &NodeId) -> Self {
        let mut to = self.clone();
        to.version.generation += 1;
        to.version.owner = self.version.owner.succeeded_by(node.clone());
        to.build.generation += 1;
        to.build.owner = self.build.owner.succeeded_by(node.clone());
        to
    }

    /// Whether version and build still are what they `were`. The image may have changed.
    pub fn is_still(&self, were: &Self) -> bool {
        let version = |of: &Self| (of.version.generation, of.version.owner.clone());
        let build = |of: &Self| (of.build.id.clone(), of.build.generation, of.build.owner.clone());
        version(self) == version(were) && build(self) == build(were)
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

/// What became of a change of an image or a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<R> {
    /// It is done, or has begun, or what it named has changed.
    Written(Written<R>),
    /// It cannot be made.
    Refused(Unchanged),
}

/// Why an image or a version stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchanged {
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
    Changed(Change<ImageRecord>),
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

/// Images, their versions and builds, as they are kept. Each change names what it saw, and is
/// written together with its events.
#[async_trait]
pub trait Images: ImageVersions {
    /// Records a new image with its first version and build, together with its client token.
    async fn insert_image(
        &self,
        new: &Building,
        actor: Option<&Actor>,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<InsertedImage>;

    /// One image.
    async fn image(&self, arn: &ImageArn) -> Result<Option<ImageRecord>>;

    /// At most `limit` images of an account by name, behind the name `after`.
    async fn images(&self, account: &AccountId, after: Option<&str>, limit: u32) -> Result<Vec<ImageRecord>>;

    /// Every image, of all accounts.
    async fn all_images(&self) -> Result<Vec<ImageRecord>>;

    /// A build with its version and image, as they are at one moment.
    async fn building(&self, id: &BuildId) -> Result<Option<Building>>;

    /// Writes what a build, its begin, end or take-over changes, if version and build still are
    /// what they were. The image is written if it is another in `to`, and must be what it was then:
    /// all at once, so that when one of them is settled, the others are.
    async fn change_build(&self, was: &Building, to: &Building, origin: &Origin)
    -> Result<Written<Building>>;

    /// Removes an image with its versions and builds.
    async fn delete_image(&self, was: &ImageRecord, origin: &Origin) -> Result<Written<ImageRecord>>;

    /// Every version that is being deleted, of all images and owners.
    async fn unfinished_deletions(&self) -> Result<Vec<ImageVersionRecord>>;

    /// All builds of a version, newest first.
    async fn builds(&self, arn: &ImageArn, version: ImageVersion) -> Result<Vec<BuildRecord>>;

    /// One build.
    async fn build(&self, arn: &ImageArn, version: ImageVersion, id: &BuildId)
    -> Result<Option<BuildRecord>>;

    /// Every build that is not over, of all accounts and owners.
    async fn unfinished_builds(&self) -> Result<Vec<BuildRecord>>;

    /// Begins an update: the image is UPDATING and counts one version more than it `was`, version
    /// and build are new.
    async fn begin_update(
        &self,
        was: &ImageRecord,
        to: &Building,
        actor: Option<&Actor>,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<BegunUpdate>;

    /// Lets a version be launched, or no longer. The image must still be as it was read, too.
    async fn set_version_status(
        &self,
        image: &ImageRecord,
        was: &ImageVersionRecord,
        to: &ImageVersionRecord,
        origin: &Origin,
    ) -> Result<Change<ImageVersionRecord>>;

    /// Marks a version DELETING and its image UPDATING. From then on it is not launched.
    async fn begin_version_deletion(
        &self,
        image: &ImageRecord,
        was: &ImageVersionRecord,
        to: &ImageVersionRecord,
        origin: &Origin,
    ) -> Result<Change<ImageVersionRecord>>;

    /// Removes a version that is DELETING, with its builds; its image is UPDATED.
    async fn finish_version_deletion(
        &self,
        was: &ImageVersionRecord,
        origin: &Origin,
    ) -> Result<Written<ImageVersionRecord>>;

    /// Marks an image DELETING. From then on none of its versions is launched.
    async fn begin_image_deletion(
        &self,
        was: &ImageRecord,
        to: &ImageRecord,
        origin: &Origin,
    ) -> Result<Change<ImageRecord>>;
}
