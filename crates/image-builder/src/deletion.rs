//! DeleteMicrovmImage and DeleteMicrovmImageVersion.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_api::{Error, ImageArn, ImageState, ImageVersion, Timestamp};
use hearth_records::Change;

use crate::builder::{ImageBuilder, remove};

impl ImageBuilder {
    /// Marks an image DELETING and removes it in the background. A build that is under way ends
    /// first: who has begun it can always end it, also while it waits or pulls. The errors are the
    /// service's (docs/errors.md).
    pub async fn delete(self: &Arc<Self>, arn: &ImageArn) -> Result<(), Error> {
        let mut change = self.config.store.begin_image_deletion(arn, Timestamp::now()).await;
        if matches!(change, Ok(Change::Busy(ImageState::Creating | ImageState::Updating)))
            && self.builds.cancel(arn).await
        {
            change = self.config.store.begin_image_deletion(arn, Timestamp::now()).await;
        }
        match change.map_err(|error| failed(arn, &error))? {
            Change::Busy(_) => {
                let message = format!("Cannot delete MicroVM image in its current state: {arn}");
                return Err(Error::validation(message));
            }
            change => refusal(change, || Error::image_not_found(arn))?,
        }
        let (builder, arn) = (self.clone(), arn.clone());
        self.tasks.spawn(async move {
            if let Err(error) = builder.remove_image(&arn).await {
                tracing::error!(%arn, %error, "the rows of a deleted image could not be removed");
            }
        });
        Ok(())
    }

    /// Marks a version DELETING and removes it in the background.
    pub async fn delete_version(
        self: &Arc<Self>,
        arn: &ImageArn,
        version: ImageVersion,
    ) -> Result<(), Error> {
        let change = self.config.store.begin_version_deletion(arn, version, Timestamp::now()).await;
        refusal(change.map_err(|error| failed(arn, &error))?, || Error::version_not_found(arn, version))?;
        let (builder, arn) = (self.clone(), arn.clone());
        self.tasks.spawn(async move {
            if let Err(error) = builder.remove_version(&arn, version).await {
                tracing::error!(%arn, %version, %error, "the rows of a deleted version could not be removed");
            }
        });
        Ok(())
    }

    pub(crate) async fn remove_version(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
    ) -> hearth_records::Result<()> {
        remove(&self.config.files.image(arn, version).directory);
        self.config.store.finish_version_deletion(arn, version, Timestamp::now()).await
    }

    /// Files first: rows without files would be a lie, files without rows are swept. The layers go
    /// with the image: the next one of its name may be somebody else's.
    pub(crate) async fn remove_image(&self, arn: &ImageArn) -> hearth_records::Result<()> {
        remove(&self.config.files.image_directory(arn));
        self.config.store.delete_image(arn).await?;
        self.sweep_caches().await
    }

    /// Removes layer caches whose image is gone.
    async fn sweep_caches(&self) -> hearth_records::Result<()> {
        let files = &self.config.files;
        let images = self.config.store.all_images().await?;
        let used: BTreeSet<PathBuf> =
            images.iter().map(|image| files.build_cache(&image.arn, &image.id)).collect();
        let accounts = entries(&files.build_caches());
        for cache in
            accounts.iter().flat_map(|account| entries(account)).filter(|cache| !used.contains(cache))
        {
            remove_cache(&cache);
        }
        Ok(())
    }
}

/// What a change that was not made is to the caller.
pub fn refusal(change: Change, not_found: impl FnOnce() -> Error) -> Result<(), Error> {
    match change {
        Change::Made => Ok(()),
        Change::NotFound => Err(not_found()),
        Change::Busy(state) => {
            Err(Error::conflict(format!("MicroVM Image is already in state: {}", state.as_str())))
        }
        Change::InUse => Err(Error::validation("Cannot delete microvm image with running microvms.")),
        Change::LastVersion => {
            Err(Error::validation("This is the last version. Please delete the entire image"))
        }
    }
}

fn failed(arn: &ImageArn, error: &hearth_records::Error) -> Error {
    tracing::error!(%arn, error = error as &dyn std::error::Error, "an image could not be deleted");
    Error::internal()
}

/// Removes a layer cache, if there is one.
pub(crate) fn remove_cache(cache: &Path) {
    if let Err(error) = std::fs::remove_file(cache)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::error!(cache = %cache.display(), %error, "a layer cache could not be removed");
    }
}

/// What a directory holds; nothing if it cannot be read.
fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
