//! What accounts take of the disk, so that none takes it all.
//!
//! Counted are the files of objects, versions, parts, uploads and settings, in blocks of 4 KiB, and
//! bodies while they arrive. What is there is counted once at start; after that every file that
//! comes or goes changes the number.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_api::AccountId;

use super::StorageError;
use super::bucket::Place;
use super::disk::entries;

/// What a file takes at least, and in multiples of what: so many small files count too.
const BLOCK_BYTES: u64 = 4096;
/// How many bytes of a body arrive between two looks at the free space of the disk.
const LOOK_EVERY_BYTES: u64 = 64 << 20;

/// What an account may take; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageLimits {
    /// Bytes of objects, versions, parts and bodies on their way.
    pub bytes: u64,
    /// Buckets.
    pub buckets: u32,
    /// Bytes of the disk that stay free; no account's upload may take them.
    pub free_bytes: u64,
}

impl Default for StorageLimits {
    fn default() -> Self {
        Self { bytes: 100 << 30, buckets: 1000, free_bytes: 2 << 30 }
    }
}

/// Bytes by account.
#[derive(Debug)]
pub(super) struct Usage {
    limits: StorageLimits,
    bytes: Mutex<HashMap<AccountId, u64>>,
}

impl Usage {
    pub(super) fn new(limits: StorageLimits) -> Self {
        Self { limits, bytes: Mutex::default() }
    }

    pub(super) fn limits(&self) -> StorageLimits {
        self.limits
    }

    /// Counts what a bucket has already.
    pub(super) fn count(&self, place: &Place) -> Result<(), StorageError> {
        let contents = place.contents();
        let mut bytes = bytes_in(&contents.join("objects"))? + bytes_in(&place.settings())?;
        bytes += freed_by(&place.record_path());
        for directory in entries(&contents.join("versions"))?.chain(entries(&contents.join("uploads"))?) {
            bytes += bytes_in(&directory?)?;
        }
        *self.all().entry(place.owner.clone()).or_default() += bytes;
        Ok(())
    }

    pub(super) fn release(&self, account: &AccountId, bytes: u64) {
        if let Some(used) = self.all().get_mut(account) {
            *used = used.saturating_sub(bytes);
        }
    }

    fn take(&self, account: &AccountId, bytes: u64) -> Result<(), StorageError> {
        let limit = self.limits.bytes;
        let mut all = self.all();
        let used = all.entry(account.clone()).or_default();
        if limit > 0 && used.saturating_add(bytes) > limit {
            return Err(StorageError::QuotaExceeded(limit));
        }
        *used += bytes;
        Ok(())
    }

    fn all(&self) -> MutexGuard<'_, HashMap<AccountId, u64>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that an account has taken for a file that is being written. Given back
/// unless the file is kept.
#[derive(Debug)]
pub(super) struct Reservation {
    usage: Arc<Usage>,
    account: AccountId,
    root: Arc<Path>,
    bytes: u64,
    unseen_bytes: u64,
}

impl Reservation {
    /// Takes `bytes` to begin with. `root` is on the disk that is written to.
    pub(super) fn new(
        usage: &Arc<Usage>,
        account: &AccountId,
        root: &Arc<Path>,
        bytes: u64,
    ) -> Result<Self, StorageError> {
        let (usage, account, root) = (usage.clone(), account.clone(), root.clone());
        let mut reservation = Self { usage, account, root, bytes: 0, unseen_bytes: LOOK_EVERY_BYTES };
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// For bytes that are counted already and move to another file; for that time they count twice.
    pub(super) fn moving(
        usage: &Arc<Usage>,
        account: &AccountId,
        root: &Arc<Path>,
        bytes: u64,
    ) -> Result<Self, StorageError> {
        let mut reservation = Self::new(usage, account, root, 0)?;
        reservation.check_disk(bytes)?;
        *usage.all().entry(account.clone()).or_default() += bytes;
        reservation.bytes = bytes;
        Ok(reservation)
    }

    /// Takes more.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), StorageError> {
        self.unseen_bytes += bytes;
        if self.unseen_bytes >= LOOK_EVERY_BYTES {
            self.unseen_bytes = 0;
            self.check_disk(bytes)?;
        }
        self.usage.take(&self.account, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// The file is there, with `length` bytes in all; it stays counted.
    pub(super) fn keep(mut self, length: u64) {
        let all = charge(length);
        let mut accounts = self.usage.all();
        let used = accounts.entry(self.account.clone()).or_default();
        *used = used.saturating_sub(self.bytes).saturating_add(all);
        drop(accounts);
        self.bytes = 0;
    }

    fn check_disk(&self, bytes: u64) -> Result<(), StorageError> {
        let free = fs4::available_space(&self.root).map_err(StorageError::io(&self.root))?;
        if free < self.usage.limits.free_bytes.saturating_add(bytes) {
            return Err(StorageError::DiskFull);
        }
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.usage.release(&self.account, self.bytes);
    }
}

/// What a file of this length counts.
pub(super) fn charge(length: u64) -> u64 {
    length.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

/// What is given back when the name `path` goes: nothing when the file has another
/// name or is not there.
pub(super) fn freed_by(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    match fs::symlink_metadata(path) {
        Ok(file) if file.is_file() && file.nlink() == 1 => charge(file.len()),
        _ => 0,
    }
}

/// What the files of a directory count; nothing when it is not there.
pub(super) fn bytes_in(directory: &Path) -> Result<u64, StorageError> {
    entries(directory)?.try_fold(0, |sum, path| Ok(sum + freed_by(&path?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_account_takes_is_not_missing_to_another_and_comes_back() {
        let limits = StorageLimits { bytes: 10_000, buckets: 0, free_bytes: 0 };
        let usage = Arc::new(Usage::new(limits));
        let root: Arc<Path> = std::env::temp_dir().into();
        let [a, b] = ["000000000000", "111122223333"].map(AccountId::from_stored);
        let take = |account, bytes| Reservation::new(&usage, account, &root, bytes);
        let mut first = take(&a, 6000).unwrap();
        assert!(matches!(take(&a, 6000), Err(StorageError::QuotaExceeded(10_000))));
        assert!(take(&b, 6000).is_ok());
        assert!(first.grow(4001).is_err());
        first.grow(4000).unwrap();
        drop(first);
        // Small files count as blocks.
        take(&a, 1).unwrap().keep(1);
        take(&a, 1).unwrap().keep(1);
        assert!(take(&a, 2000).is_err());
        usage.release(&a, charge(1));
        assert!(take(&a, 2000).is_ok());
    }
}
