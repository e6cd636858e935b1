//! Store disks of pulled images: kept by account, within a number of bytes, and not removed
//! while a build uses them.
//!
//! Accounts share none: what one has pulled tells nothing to another, and counts for itself.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use hearth_api::AccountId;

/// The store disks.
#[derive(Debug)]
pub(crate) struct StoreCache {
    root: PathBuf,
    /// How much each account may keep.
    account_bytes: u64,
    in_use: Arc<Mutex<HashMap<PathBuf, usize>>>,
    locks: Mutex<HashMap<PathBuf, Weak<tokio::sync::Mutex<()>>>>,
}

/// A disk that stays while this lives.
#[derive(Debug)]
pub(crate) struct Lease {
    path: PathBuf,
    in_use: Arc<Mutex<HashMap<PathBuf, usize>>>,
}

impl StoreCache {
    pub(crate) fn new(root: PathBuf, account_bytes: u64) -> Self {
        Self { root, account_bytes, in_use: Arc::default(), locks: Mutex::default() }
    }

    /// Makes and returns the directory of an account.
    pub(crate) fn directory(&self, account: &AccountId) -> io::Result<PathBuf> {
        let directory = self.root.join(account.as_str());
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    /// What keeps two pulls from making the same disk at the same time.
    pub(crate) fn lock(&self, store: &Path) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(store).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(store.to_owned(), Arc::downgrade(&lock));
        lock
    }

    /// Keeps a disk from being removed, and remembers that it was used; `None` if
    /// there is no such disk.
    pub(crate) fn lease(&self, store: &Path) -> Option<Lease> {
        let lease = {
            let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
            *in_use.entry(store.to_owned()).or_default() += 1;
            Lease { path: store.to_owned(), in_use: self.in_use.clone() }
        };
        let used = fs::File::open(store).and_then(|file| file.set_modified(SystemTime::now()));
        match used {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // The time decides only what goes first.
            _ => Some(lease),
        }
    }

    /// Removes the least recently used disks of an account until it keeps no more than it may, but
    /// not those in use. Returns whether that was enough.
    pub(crate) fn shrink(&self, account: &AccountId) -> io::Result<bool> {
        let mut disks = Vec::new();
        for entry in fs::read_dir(self.directory(account)?)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                disks.push((metadata.modified()?, entry.path(), metadata.blocks() * 512));
            }
        }
        disks.sort();
        let mut bytes: u64 = disks.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, path, size) in disks {
            if bytes <= self.account_bytes {
                break;
            }
            let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
            if !in_use.contains_key(&path) {
                fs::remove_file(&path)?;
                bytes -= size;
            }
        }
        Ok(bytes <= self.account_bytes)
    }

    /// Removes what unfinished pulls have left, and disks from before there were accounts. To be
    /// called before any pull.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
                continue;
            }
            let is_account = entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
            if !is_account {
                fs::remove_dir_all(entry.path())?;
                continue;
            }
            for left in fs::read_dir(entry.path())? {
                let left = left?;
                if left.file_type()?.is_dir() {
                    fs::remove_dir_all(left.path())?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = in_use.get_mut(&self.path) {
            *count -= 1;
            if *count == 0 {
                in_use.remove(&self.path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_account_keeps_what_it_used_last_and_what_is_in_use_and_takes_nothing_from_others() {
        let directory = tempfile::tempdir().unwrap();
        let cache = StoreCache::new(directory.path().to_owned(), 64 << 10);
        let (own, other) = (AccountId::from_stored("111122223333"), AccountId::from_stored("999999999999"));
        let make = |account, name: &str, age: u64| {
            let path = cache.directory(account).unwrap().join(name);
            fs::write(&path, vec![1; 32 << 10]).unwrap();
            let time = SystemTime::now() - Duration::from_secs(age);
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
            path
        };
        let theirs = make(&other, "theirs", 1000);
        let (oldest, older, old) = (make(&own, "a", 300), make(&own, "b", 200), make(&own, "c", 100));
        let lease = cache.lease(&oldest).unwrap();
        assert!(cache.shrink(&own).unwrap());
        assert!(oldest.exists() && !older.exists() && old.exists() && theirs.exists());
        // What is in use stays, even if it is too much.
        let more = make(&own, "d", 50);
        let others = [cache.lease(&old).unwrap(), cache.lease(&more).unwrap()];
        assert!(!cache.shrink(&own).unwrap());
        drop((lease, others));
        assert!(cache.shrink(&own).unwrap());
        assert!(cache.lease(&older).is_none());
    }

    #[test]
    fn what_was_left_behind_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let cache = StoreCache::new(directory.path().join("cache"), 0);
        cache.sweep().unwrap();
        let account = cache.directory(&AccountId::from_stored("111122223333")).unwrap();
        fs::create_dir(account.join(".pull-x")).unwrap();
        fs::write(account.join("kept.ext4"), "").unwrap();
        fs::write(directory.path().join("cache/of-nobody.ext4"), "").unwrap();
        fs::create_dir(directory.path().join("cache/.storing-y")).unwrap();
        cache.sweep().unwrap();
        assert!(account.join("kept.ext4").exists() && !account.join(".pull-x").exists());
        assert_eq!(fs::read_dir(directory.path().join("cache")).unwrap().count(), 1);
    }
}
