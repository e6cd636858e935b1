//! Which buckets there are, in memory: names and owners of all, and the descriptions of those that
//! were asked for lately. So no request reads the description of a bucket that it is not about,
//! and one about a busy bucket reads none. There is one server to a directory, so what is here is
//! what is on the disk.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hearth_api::AccountId;

use super::bucket::Bucket;

/// What the descriptions in memory may take together, as [`Bucket::weight`] has it. Beyond
/// it they are forgotten.
const MAXIMUM_LOADED_BYTES: usize = 16 << 20;

/// The index.
#[derive(Debug, Default)]
pub(super) struct Index(RwLock<All>);

#[derive(Debug, Default)]
struct All {
    buckets: HashMap<String, Entry>,
    /// Names and times of creation, in milliseconds since 1970, of each account's buckets.
    of_accounts: HashMap<AccountId, BTreeMap<String, i64>>,
    loaded: HashMap<String, Arc<Bucket>>,
    loaded_bytes: usize,
    changes: u64,
}

#[derive(Debug)]
struct Entry {
    owner: AccountId,
    /// Number of the last change of the description.
    change: u64,
}

/// What is known of a name.
#[derive(Debug)]
pub(super) enum Look {
    /// There is no such bucket.
    Missing,
    Loaded(Arc<Bucket>),
    /// Its description, which was last changed by this number, has to be read.
    Unloaded(u64),
}

impl Index {
    pub(super) fn look(&self, name: &str) -> Look {
        let all = self.read();
        match (all.loaded.get(name), all.buckets.get(name)) {
            (Some(bucket), _) => Look::Loaded(bucket.clone()),
            (None, Some(entry)) => Look::Unloaded(entry.change),
            (None, None) => Look::Missing,
        }
    }

    /// Remembers a description that was read, unless it was changed meanwhile.
    pub(super) fn keep(&self, bucket: &Arc<Bucket>, change: u64) {
        let mut all = self.write();
        if all.buckets.get(&bucket.name).is_none_or(|entry| entry.change != change) {
            return;
        }
        let weight = bucket.weight();
        if all.loaded_bytes + weight > MAXIMUM_LOADED_BYTES {
            all.loaded.clear();
            all.loaded_bytes = 0;
        }
        if all.loaded.insert(bucket.name.clone(), bucket.clone()).is_none() {
            all.loaded_bytes += weight;
        }
    }

    /// Takes in a bucket that was found at start, or was made.
    pub(super) fn add(&self, name: &str, owner: &AccountId, created_ms: i64) {
        let mut all = self.write();
        all.changes += 1;
        let entry = Entry { owner: owner.clone(), change: all.changes };
        all.buckets.insert(name.to_owned(), entry);
        all.of_accounts.entry(owner.clone()).or_default().insert(name.to_owned(), created_ms);
    }

    /// Forgets the description of a bucket, which has changed.
    pub(super) fn changed(&self, name: &str) {
        let mut all = self.write();
        all.changes += 1;
        let change = all.changes;
        if let Some(entry) = all.buckets.get_mut(name) {
            entry.change = change;
        }
        all.unload(name);
    }

    /// Forgets a bucket that is no more.
    pub(super) fn remove(&self, name: &str) {
        let mut all = self.write();
        all.unload(name);
        let Some(entry) = all.buckets.remove(name) else { return };
        if let Some(names) = all.of_accounts.get_mut(&entry.owner) {
            names.remove(name);
            if names.is_empty() {
                all.of_accounts.remove(&entry.owner);
            }
        }
    }

    /// Names and times of creation of an account's buckets, in the order of the names.
    pub(super) fn of(&self, account: &AccountId) -> BTreeMap<String, i64> {
        self.read().of_accounts.get(account).cloned().unwrap_or_default()
    }

    /// How many buckets an account has.
    pub(super) fn count_of(&self, account: &AccountId) -> usize {
        self.read().of_accounts.get(account).map_or(0, BTreeMap::len)
    }

    /// Names of all buckets by account.
    pub(super) fn by_account(&self) -> Vec<Vec<String>> {
        self.read().of_accounts.values().map(|names| names.keys().cloned().collect()).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, All> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, All> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn unload(&mut self, name: &str) {
        if let Some(bucket) = self.loaded.remove(name) {
            self.loaded_bytes -= bucket.weight();
        }
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
