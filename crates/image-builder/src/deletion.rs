//! DeleteMicrovmImage, DeleteMicrovmImageVersion and UpdateMicrovmImageVersion.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use hearth_api::{
    Error, ImageArn, ImageState, ImageVersion, ImageVersionState, ImageVersionStatus, Timestamp,
};
use hearth_records::{Actor, Change, ImageRecord, ImageVersionRecord, Origin, Unchanged, Written};

use crate::builder::ImageBuilder;

impl ImageBuilder {
    /// Marks an image DELETING and removes it in the background. A build that is under way ends
    /// first: who has begun it can always end it, also while it waits or pulls. The errors are the
    /// service's (docs/errors.md).
    pub async fn delete(self: &Arc<Self>, arn: &ImageArn, actor: Option<Actor>) -> Result<(), Error> {
        let origin = Origin::api(actor);
        let deleting = self.begin_deletion(arn, &origin).await?;
        let (builder, arn) = (self.clone(), arn.clone());
        self.tasks.spawn(async move {
            if let Err(error) = builder.remove_image(&deleting, &origin).await {
                tracing::error!(%arn, %error, "the rows of a deleted image could not be removed");
            }
        });
        Ok(())
    }

    async fn begin_deletion(&self, arn: &ImageArn, origin: &Origin) -> Result<ImageRecord, Error> {
        let store = &self.config.store;
        let mut has_cancelled = false;
        loop {
            let was = store.image(arn).await.map_err(|error| failed(arn, &error))?;
            let was = was.ok_or_else(|| Error::image_not_found(arn))?;
            let to = was.entering(ImageState::Deleting, Timestamp::now());
            let change = store.begin_image_deletion(&was, &to, origin).await;
            match change.map_err(|error| failed(arn, &error))? {
                Change::Written(Written::Yes) => return Ok(to),
                Change::Written(Written::Stale(_)) => {}
                Change::Refused(Unchanged::Busy(ImageState::Creating | ImageState::Updating))
                    if !has_cancelled && self.builds.cancel(arn, origin).await =>
                {
                    has_cancelled = true;
                }
                Change::Refused(Unchanged::Busy(_)) => {
                    let message = format!("Cannot delete MicroVM image in its current state: {arn}");
                    return Err(Error::validation(message));
                }
                Change::Refused(unchanged) => return Err(refusal(unchanged)),
            }
        }
    }

    /// Marks a version DELETING and removes it in the background.
    pub async fn delete_version(
        self: &Arc<Self>,
        arn: &ImageArn,
        version: ImageVersion,
        actor: Option<Actor>,
    ) -> Result<(), Error> {
        let origin = Origin::api(actor);
        let deleting = loop {
            let (image, was) = self.version_of(arn, version).await?;
            let mut to = was.entering(ImageVersionState::Deleting, Timestamp::now());
            if was.owner.node != self.config.node {
                to.owner = was.owner.succeeded_by(self.config.node.clone());
            }
            let change = self.config.store.begin_version_deletion(&image, &was, &to, &origin).await;
            if is_written(arn, change)? {
                break to;
            }
        };
        let (builder, arn) = (self.clone(), arn.clone());
        self.tasks.spawn(async move {
            if let Err(error) = builder.remove_version(&deleting, &origin).await {
                tracing::error!(%arn, %version, %error, "the rows of a deleted version could not be removed");
            }
        });
        Ok(())
    }

    /// Lets a version be launched, or no longer; the version as it is then.
    pub async fn set_version_status(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        status: ImageVersionStatus,
        actor: Option<Actor>,
    ) -> Result<ImageVersionRecord, Error> {
        let origin = Origin::api(actor);
        loop {
            let (image, was) = self.version_of(arn, version).await?;
            let to = ImageVersionRecord { status, ..was.entering(was.state, Timestamp::now()) };
            let change = self.config.store.set_version_status(&image, &was, &to, &origin).await;
            if is_written(arn, change)? {
                return Ok(to);
            }
        }
    }

    /// A version that is to be changed, and its image. That this cannot be changed now is said
    /// before that there is no such version.
    async fn version_of(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
    ) -> Result<(ImageRecord, ImageVersionRecord), Error> {
        let store = &self.config.store;
        let not_found = || Error::version_not_found(arn, version);
        let image = store.image(arn).await.map_err(|error| failed(arn, &error))?.ok_or_else(not_found)?;
        match store.image_version(arn, version).await.map_err(|error| failed(arn, &error))? {
            Some(version) => Ok((image, version)),
            None if image.is_settled() => Err(not_found()),
            None => Err(refusal(Unchanged::Busy(image.state))),
        }
    }

    pub(crate) async fn remove_version(
        &self,
        was: &ImageVersionRecord,
        origin: &Origin,
    ) -> hearth_records::Result<()> {
        self.config.snapshots.remove_version(&was.arn, was.version);
        if let Written::Stale(known) = self.config.store.finish_version_deletion(was, origin).await? {
            tracing::warn!(arn = %was.arn, version = %was.version, ?known, "a version was removed by somebody else");
        }
        Ok(())
    }

    /// Files first: rows without files would be a lie, files without rows go with the next start.
    /// The layers go with the image: the next one of its name may be somebody else's.
    pub(crate) async fn remove_image(
        &self,
        was: &ImageRecord,
        origin: &Origin,
    ) -> hearth_records::Result<()> {
        self.config.snapshots.remove_image(&was.arn);
        if let Written::Stale(known) = self.config.store.delete_image(was, origin).await? {
            tracing::warn!(arn = %was.arn, ?known, "an image was removed by somebody else");
        }
        self.sweep_caches().await
    }

    /// Removes the files of versions that are not on record: those of builds whose image somebody
    /// else has deleted, for instance. Called before there are builds.
    pub(crate) async fn sweep_versions(&self, images: &[ImageRecord]) -> hearth_records::Result<()> {
        let mut known = Vec::new();
        for image in images {
            known.extend(self.config.store.image_versions(&image.arn).await?);
        }
        self.config.snapshots.keep_versions(known.iter().map(|it| (&it.arn, it.version)));
        Ok(())
    }

    /// Removes layer caches whose image is gone.
    async fn sweep_caches(&self) -> hearth_records::Result<()> {
        let snapshots = &self.config.snapshots;
        let images = self.config.store.all_images().await?;
        let used: BTreeSet<PathBuf> =
            images.iter().map(|image| snapshots.build_cache(&image.arn, &image.id)).collect();
        snapshots.keep_build_caches(|cache| used.contains(cache));
        Ok(())
    }
}

/// Whether a change was written; if not, the record had changed and is to be looked at again.
fn is_written<R>(arn: &ImageArn, change: hearth_records::Result<Change<R>>) -> Result<bool, Error> {
    match change.map_err(|error| failed(arn, &error))? {
        Change::Written(written) => Ok(matches!(written, Written::Yes)),
        Change::Refused(unchanged) => Err(refusal(unchanged)),
    }
}

/// Why a change was not made, to the caller.
pub fn refusal(unchanged: Unchanged) -> Error {
    match unchanged {
        Unchanged::Busy(state) => {
            Error::conflict(format!("MicroVM Image is already in state: {}", state.as_str()))
        }
        Unchanged::InUse => Error::validation("Cannot delete microvm image with running microvms."),
        Unchanged::LastVersion => {
            Error::validation("This is the last version. Please delete the entire image")
        }
    }
}

fn failed(arn: &ImageArn, error: &hearth_records::Error) -> Error {
    tracing::error!(%arn, error = error as &dyn std::error::Error, "an image could not be changed");
    Error::internal()
}
