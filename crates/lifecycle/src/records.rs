//! Where the records are: what this crate needs of the store. A simulation keeps them in memory.

use std::fmt;

use async_trait::async_trait;
use hearth_api::{ImageArn, ImageVersion, MicrovmId};
use hearth_records::{ImageVersionRecord, MicrovmRecord};
use hearth_store::{Result, Store};

/// Reads and writes records; each method is the one of [`Store`] that has its name.
#[async_trait]
pub trait Records: Send + Sync + fmt::Debug {
    /// [`Store::update_microvm`].
    async fn update_microvm(&self, record: &MicrovmRecord) -> Result<()>;

    /// [`Store::microvm`].
    async fn microvm(&self, id: &MicrovmId) -> Result<Option<MicrovmRecord>>;

    /// [`Store::microvms_alive`].
    async fn microvms_alive(&self) -> Result<Vec<MicrovmRecord>>;

    /// [`Store::image_version`].
    async fn image_version(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
    ) -> Result<Option<ImageVersionRecord>>;
}

#[async_trait]
impl Records for Store {
    async fn update_microvm(&self, record: &MicrovmRecord) -> Result<()> {
        self.update_microvm(record).await
    }

    async fn microvm(&self, id: &MicrovmId) -> Result<Option<MicrovmRecord>> {
        self.microvm(id).await
    }

    async fn microvms_alive(&self) -> Result<Vec<MicrovmRecord>> {
        self.microvms_alive().await
    }

    async fn image_version(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
    ) -> Result<Option<ImageVersionRecord>> {
        self.image_version(arn, version).await
    }
}
