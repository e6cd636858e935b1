//! The records of builds: how their begin and end are written, and what is done when they are
//! somebody else's by then.
//!
//! A build that was claimed by another process has its records changed by that one alone. Here it
//! is stopped within a second, and nothing of it is published.

use std::time::Duration;

use hearth_api::{BuildState, ImageState, ImageVersionState, Timestamp};
use hearth_records::{
    AppRecord, BuildRecord, Building, Cause, ImageRecord, ImageVersionRecord, Origin, Written,
};
use tokio_util::sync::CancellationToken;

use crate::build_guest::stopped_failure;
use crate::builder::ImageBuilder;
use crate::failure::{BuildFailure, FailureCode};

/// Between two looks at who owns a build that is under way.
const LOOK: Duration = Duration::from_secs(1);

impl ImageBuilder {
    /// Runs a build to its end, which is near when somebody else has claimed it.
    pub(crate) async fn while_owned<T>(
        &self,
        build: &BuildRecord,
        mut work: impl Future<Output = T> + Unpin,
        token: &CancellationToken,
    ) -> T {
        loop {
            tokio::select! {
                outcome = &mut work => return outcome,
                () = tokio::time::sleep(LOOK) => {}
            }
            // What cannot be read now is found out later, or when it is written.
            let known = self.config.store.build(&build.arn, build.version, &build.id).await;
            if known.is_ok_and(|known| known.is_none_or(|known| known.owner != build.owner)) {
                token.cancel();
                return work.await;
            }
        }
    }

    /// Writes that a build has begun.
    pub(crate) async fn begin(&self, building: &mut Building) -> Result<(), BuildFailure> {
        let mut to = building.clone();
        to.build = building.build.entering(BuildState::InProgress);
        to.version = building.version.entering(ImageVersionState::InProgress, Timestamp::now());
        let origin = Origin::of(Cause::Build);
        let begun = self.config.store.change_build(building, &to, &origin).await;
        match begun.map_err(|error| BuildFailure::platform("record the begin of the build", &error))? {
            Written::Yes => *building = to,
            // It is not written, as this build's end is not written either.
            Written::Stale(_) => return Err(stopped_failure()),
        }
        Ok(())
    }

    /// Writes how a build ended. What a failed one has made is removed first: its space may be
    /// needed. A build that somebody else has claimed is left to them.
    pub(crate) async fn finish(
        &self,
        building: &Building,
        outcome: Result<AppRecord, BuildFailure>,
        origin: &Origin,
    ) -> hearth_records::Result<()> {
        let store = &self.config.store;
        let known = store.building(&building.build.id).await?;
        if !known.is_some_and(|known| known.is_still(building)) {
            return self.leave(building).await;
        }
        if let Err(failure) = &outcome {
            self.clear(building, failure);
        }
        match store.change_build(building, &ended(building, &outcome), origin).await? {
            Written::Yes => Ok(()),
            Written::Stale(_) => self.leave(building).await,
        }
    }

    /// Removes what a build has made that somebody else has claimed, unless this node has the
    /// version built.
    async fn leave(&self, building: &Building) -> hearth_records::Result<()> {
        let (arn, version) = (&building.image.arn, building.version.version);
        tracing::warn!(%arn, %version, build = %building.build.id, "a build has another owner, and ends here");
        let known = self.config.store.image_version(arn, version).await?;
        let is_built = |known: &ImageVersionRecord| {
            known.owner.node == self.config.node && known.state == ImageVersionState::Successful
        };
        if !known.as_ref().is_some_and(is_built) {
            self.config.snapshots.remove_version(arn, version);
        }
        Ok(())
    }

    fn clear(&self, building: &Building, failure: &BuildFailure) {
        let (arn, version) = (&building.image.arn, building.version.version);
        if failure.code == FailureCode::Deleted {
            tracing::info!(%arn, %version, "a build ended: its image was deleted");
        } else {
            tracing::warn!(%arn, %version, %failure, "a build failed");
        }
        self.config.snapshots.remove_version(arn, version);
    }

    /// What has ended a build, if nobody has cancelled it.
    pub(crate) fn origin_of_end(
        &self,
        cancelled_by: Option<Origin>,
        outcome: &Result<AppRecord, BuildFailure>,
    ) -> Origin {
        cancelled_by.unwrap_or_else(|| {
            Origin::of(match outcome.as_ref().map_err(|failure| failure.code) {
                Err(_) if self.stopped.is_cancelled() => Cause::Operator,
                Err(FailureCode::DiskStorageFull | FailureCode::InternalPlatformError) => Cause::Host,
                _ => Cause::Build,
            })
        })
    }

    /// Ends builds and deletions that a former process of this node left unfinished, and removes
    /// their files. Those of other nodes are their business.
    pub async fn recover(&self) -> hearth_records::Result<()> {
        self.config.base_images.sweep();
        let (store, node, host) = (&self.config.store, &self.config.node, Origin::of(Cause::Host));
        for build in store.unfinished_builds().await? {
            let was = store.building(&build.id).await?;
            let Some(was) = was.filter(|was| was.build.owner.is_left_to(node)) else { continue };
            let claimed = was.claimed_by(node);
            // From here on no earlier process of this node changes it any more.
            if store.change_build(&was, &claimed, &host).await? == Written::Yes {
                self.finish(&claimed, Err(stopped_failure()), &host).await?;
            }
        }
        self.config.snapshots.remove_builds();
        for version in store.unfinished_deletions().await? {
            if version.owner.is_left_to(node) {
                self.remove_version(&version, &host).await?;
            }
        }
        let (deleting, images): (Vec<_>, Vec<_>) =
            store.all_images().await?.into_iter().partition(|image| image.state == ImageState::Deleting);
        for image in deleting {
            self.remove_image(&image, &host).await?;
        }
        self.sweep_versions(&images).await
    }
}

/// What the records of a build become with its end.
fn ended(was: &Building, outcome: &Result<AppRecord, BuildFailure>) -> Building {
    let now = Timestamp::now();
    let first = was.image.state == ImageState::Creating;
    let version = was.version.version;
    let (build, row, image) = match outcome {
        Ok(_) => (
            BuildState::Successful,
            ImageVersionState::Successful,
            if first { ImageState::Created } else { ImageState::Updated },
        ),
        Err(_) => (
            BuildState::Failed,
            ImageVersionState::Failed,
            if first { ImageState::CreateFailed } else { ImageState::UpdateFailed },
        ),
    };
    let image = was.image.entering(image, now);
    let mut to = Building {
        image: match outcome {
            Ok(_) => ImageRecord { latest_active_version: Some(version), ..image },
            Err(_) => ImageRecord { latest_failed_version: Some(version), ..image },
        },
        version: was.version.entering(row, now),
        build: was.build.entering(build),
    };
    match outcome {
        Ok(app) => to.version.app = Some(app.clone()),
        Err(failure) => to.build.state_reason = Some(failure.to_string()),
    }
    to
}
