//! Whether there is room for another build: what the images of the account take already, and what
//! the disk has left.
//!
//! Asked when a build is recorded and again when it has a place. What runs then may still grow, by
//! less than a root disk, a memory and a layer cache each; how many run for an account is limited.

use hearth_api::{AccountId, Error, ErrorKind};

use crate::builder::ImageBuilder;
use crate::failure::{BuildFailure, FailureCode};
use crate::slots::FairSlots;

/// Accounts whose files are looked at, at the same time: an account may have some ten thousand.
const LOOKS: usize = 2;

/// Calls of one account that may wait for that.
const WAITING_LOOKS: usize = 64;

/// Places for looking at files.
pub(crate) fn looks() -> FairSlots {
    FairSlots::new(LOOKS, 1)
}

impl ImageBuilder {
    /// Refuses another build of an account when its images take all that they may, or when the disk
    /// has less left than builds leave on it.
    pub async fn check_room(&self, account: &AccountId) -> Result<(), Error> {
        let config = &self.config;
        // A file system that does not say what it has is not full.
        let free = fs4::available_space(config.snapshots.root()).unwrap_or(u64::MAX);
        if free < config.free_bytes {
            let message = format!(
                "The host has no room for another build: {} MiB of its disk are free, and a build begins with {} MiB \
                 (build.minimum_free_disk_mib).",
                free >> 20,
                config.free_bytes >> 20
            );
            return Err(Error::new(ErrorKind::InternalServer, message));
        }
        if config.account_bytes == 0 {
            return Ok(());
        }
        let taken = self.bytes_of_images(account).await?;
        if taken < config.account_bytes {
            return Ok(());
        }
        let message = format!(
            "The images of this account and their layer caches take {} MiB on the disk and may take {} MiB \
             (quotas.images_gib); delete images or versions first.",
            taken >> 20,
            config.account_bytes >> 20
        );
        Err(Error::new(ErrorKind::ServiceQuotaExceeded, message))
    }

    /// Fails a build for want of room whose turn has come: it was let in when there was some.
    pub(crate) async fn still_has_room(&self, account: &AccountId) -> Result<(), BuildFailure> {
        let room = self.check_room(account).await;
        room.map_err(|refusal| BuildFailure::new(FailureCode::DiskStorageFull, refusal.message))
    }

    /// Bytes of the disk that the versions of an account's images, and the images' layer caches,
    /// take.
    async fn bytes_of_images(&self, account: &AccountId) -> Result<u64, Error> {
        if self.looks.waiting(account) >= WAITING_LOOKS {
            let message = "Too many images are being made at the same time; please try again later.";
            return Err(Error::new(ErrorKind::Throttling, message));
        }
        let _look = self.looks.acquire(account).await;
        let (snapshots, owner) = (self.config.snapshots.clone(), account.clone());
        let looking = tokio::task::spawn_blocking(move || snapshots.bytes_of_images(&owner));
        looking.await.map_err(|error| {
            tracing::error!(%account, %error, "the files of an account's images could not be looked at");
            Error::internal()
        })
    }
}
