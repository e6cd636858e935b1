//! What comes before a build microVM: the zip, and the images that its Dockerfile names. It needs
//! no place among the builds.

use std::collections::BTreeSet;
use std::path::Path;

use hearth_records::{BuildRecord, ImageVersionRecord};
use tokio_util::sync::CancellationToken;

use crate::base_images::{Asker, Stores};
use crate::build_log::BuildLog;
use crate::builder::ImageBuilder;
use crate::dockerfile::Scan;
use crate::failure::BuildFailure;
use crate::slots::{FairSlots, Slot};

/// Zips that are fetched and checked at the same time.
const ZIPS: usize = 4;
/// Of one account.
const ZIPS_PER_ACCOUNT: usize = 2;

/// What a build microVM needs, ready before there is a place for it.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What the Dockerfile says.
    pub(crate) scan: Scan,
    /// The disks of its base images.
    pub(crate) stores: Stores,
    /// Its place among the builds, once it has one.
    pub(crate) slot: Option<Slot>,
}

/// Places for fetching and checking zips.
pub(crate) fn places() -> FairSlots {
    FairSlots::new(ZIPS, ZIPS_PER_ACCOUNT)
}

impl ImageBuilder {
    /// What needs no microVM: the zip becomes a tar, and its base images come from their
    /// registries. A mistake in the Dockerfile shows here, without a wait for other builds.
    pub(crate) async fn prepare(
        &self,
        row: &ImageVersionRecord,
        build: &BuildRecord,
        scratch: &Path,
        log: &mut BuildLog,
    ) -> Result<Prepared, BuildFailure> {
        let config = &self.config;
        let account = &row.arn.account;
        let (zip, tar) = (scratch.join("code.zip"), scratch.join("context.tar"));
        let scan = {
            let _place = self.preparations.acquire(account).await;
            log.line(&format!("Fetching {}", row.configuration.code_artifact.uri)).await;
            self.fetch(row, build, &zip).await?;
            config.readers.to_tar(&zip, &tar, &config.archive_limits).await?.scan
        };
        match &scan.other_platform {
            None => {}
            Some(other) if config.any_architecture => {
                log.line(&format!(
                    "Line {} of the Dockerfile asks for an image for {}; this host's is taken instead (any_architecture).",
                    other.line, other.platform
                ))
                .await;
            }
            Some(other) => return Err(other.failure()),
        }
        let stores = self.stores(row, &scan.images).await?;
        Ok(Prepared { scan, stores, slot: None })
    }

    /// The disks of these base images.
    pub(crate) async fn stores(
        &self,
        row: &ImageVersionRecord,
        images: &BTreeSet<String>,
    ) -> Result<Stores, BuildFailure> {
        let asker = Asker { account: &row.arn.account, role: &row.configuration.build_role_arn };
        self.config.base_images.stores(asker, images, &self.config.guests).await
    }

    /// Waits for a place among the builds.
    pub(crate) async fn place(
        &self,
        build: &BuildRecord,
        stopped: &CancellationToken,
    ) -> Result<Slot, BuildFailure> {
        tokio::select! {
            slot = self.slots.acquire(&build.arn.account) => Ok(slot),
            () = stopped.cancelled() => Err(self.builds.failure(&build.id)),
        }
    }
}
