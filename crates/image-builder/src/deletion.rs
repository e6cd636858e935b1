//! DeleteMicrovmImage: who may be deleted when, and the removal itself.

use std::sync::{Arc, PoisonError};

use hearth_api::{Error, ImageArn, ImageState};

use crate::builder::{ImageBuilder, remove};

impl ImageBuilder {
    /// Marks an image DELETING and removes it in the background. The errors are the service's (behaviour.md section 1,
    /// wire-facts.md section 4).
    pub async fn delete(self: &Arc<Self>, arn: &ImageArn) -> Result<(), Error> {
        let store = &self.config.store;
        let internal = |error: hearth_store::Error| {
            tracing::error!(%arn, %error, "an image could not be deleted");
            Error::internal()
        };
        let mut image = store
            .image(arn)
            .await
            .map_err(internal)?
            .ok_or_else(|| Error::not_found(format!("MicroVMImage not found for MicroVMImageID: {arn}")))?;
        let settled = !matches!(image.state, ImageState::Creating | ImageState::Updating | ImageState::Deleting);
        if !settled || self.busy.lock().unwrap_or_else(PoisonError::into_inner).contains(arn) {
            return Err(Error::validation(format!("Cannot delete MicroVM image in its current state: {arn}")));
        }
        if store.microvms_alive_of(arn).await.map_err(internal)? > 0 {
            return Err(Error::validation("Cannot delete microvm image with running microvms."));
        }
        image.state = ImageState::Deleting;
        store.update_image(&image).await.map_err(internal)?;
        let (builder, arn) = (self.clone(), arn.clone());
        self.tasks.spawn(async move {
            if let Err(error) = builder.remove_image(&arn).await {
                tracing::error!(%arn, %error, "the rows of a deleted image could not be removed");
            }
        });
        Ok(())
    }

    /// Files first: rows without files would be a lie, files without rows are swept.
    pub(crate) async fn remove_image(&self, arn: &ImageArn) -> hearth_store::Result<()> {
        remove(&self.config.files.image_directory(arn));
        let cache = self.config.files.build_cache(arn);
        if let Err(error) = std::fs::remove_file(&cache)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::error!(cache = %cache.display(), %error, "a layer cache could not be removed");
        }
        self.config.store.delete_image(arn).await
    }
}
