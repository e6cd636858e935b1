//! Locks for the names of buckets and for the keys of objects. There are few, which
//! all buckets share.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

/// Number of locks for keys, and of those for names.
const LOCKS: usize = 64;

/// All of them.
#[derive(Debug)]
pub(super) struct Locks {
    /// Changes of one object come one after the other. Taken after that of the bucket's name.
    keys: [Mutex<()>; LOCKS],
    /// Shared by changes in a bucket, owned by changes of a bucket.
    names: [RwLock<()>; LOCKS],
    /// Objects whose versions are being looked through: how many do that, and how often their lock
    /// was taken meanwhile.
    watched: Mutex<HashMap<PathBuf, (usize, u64)>>,
    /// Chooses the lock. Random, so that nobody can work out which names share a lock
    /// with someone else's.
    hasher: RandomState,
}

impl Default for Locks {
    fn default() -> Self {
        Self {
            keys: std::array::from_fn(|_| Mutex::default()),
            names: std::array::from_fn(|_| RwLock::default()),
            watched: Mutex::default(),
            hasher: RandomState::new(),
        }
    }
}

impl Locks {
    /// Keeps others from changing the object at `path`.
    pub(super) fn key(&self, path: &Path) -> MutexGuard<'_, ()> {
        let guard = self.keys[self.slot(path)].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, taken)) = self.all_watched().get_mut(path) {
            *taken += 1;
        }
        guard
    }

    /// The lock of a bucket's name.
    pub(super) fn name(&self, name: &str) -> &RwLock<()> {
        &self.names[self.slot(name)]
    }

    /// Counts from now on how often the lock of the object at `path` is taken.
    pub(super) fn watch<'a>(&'a self, path: &'a Path) -> Watch<'a> {
        let mut watched = self.all_watched();
        let (watchers, taken) = watched.entry(path.to_owned()).or_default();
        *watchers += 1;
        Watch { locks: self, path, before: *taken }
    }

    fn all_watched(&self) -> MutexGuard<'_, HashMap<PathBuf, (usize, u64)>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot<T: Hash + ?Sized>(&self, of: &T) -> usize {
        self.hasher.hash_one(of) as usize % LOCKS
    }
}

/// Counts how often the lock of an object is taken while this lives.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    locks: &'a Locks,
    path: &'a Path,
    before: u64,
}

impl Watch<'_> {
    pub(super) fn taken(&self) -> u64 {
        self.locks.all_watched().get(self.path).map_or(0, |(_, taken)| taken - self.before)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut watched = self.locks.all_watched();
        if let Some((watchers, _)) = watched.get_mut(self.path) {
            *watchers -= 1;
            if *watchers == 0 {
                watched.remove(self.path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_work_out_which_names_share_a_lock() {
        let slots = |locks: &Locks| (0..64).map(|n| locks.slot(&format!("bucket-{n}"))).collect::<Vec<_>>();
        let (one, other) = (Locks::default(), Locks::default());
        assert_eq!(slots(&one), slots(&one));
        // That 64 names fall alike twice has a chance of 64 to the power of -64.
        assert_ne!(slots(&one), slots(&other));
    }
}
