//! A user id of its own for every confined process: VMMs and readers of hostile files.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Hands out user ids from a range; clones share it.
#[derive(Debug, Clone)]
pub struct UidPool {
    first: u32,
    taken: Arc<Mutex<BTreeSet<u32>>>,
}

/// A user id that nobody else has while this value lives.
#[derive(Debug)]
pub struct Uid {
    uid: u32,
    pool: UidPool,
}

impl UidPool {
    /// A pool that begins at `first`.
    pub fn new(first: u32) -> Self {
        Self { first, taken: Arc::default() }
    }

    /// The lowest free id.
    pub fn take(&self) -> Uid {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut uid = self.first;
        while taken.contains(&uid) {
            uid += 1;
        }
        taken.insert(uid);
        Uid { uid, pool: self.clone() }
    }

    /// Takes an id that is in use already, by a process of an earlier server; `None` when it
    /// was handed out since.
    pub fn claim(&self, uid: u32) -> Option<Uid> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(uid).then(|| Uid { uid, pool: self.clone() })
    }
}

impl Uid {
    /// The number.
    pub fn get(&self) -> u32 {
        self.uid
    }
}

impl Drop for Uid {
    fn drop(&mut self) {
        self.pool.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_while_they_live_and_come_back_afterwards() {
        let pool = UidPool::new(1000);
        let (first, second) = (pool.take(), pool.take());
        assert_eq!((first.get(), second.get()), (1000, 1001));
        drop(first);
        assert_eq!(pool.take().get(), 1000);
    }

    #[test]
    fn an_id_in_use_is_claimed_once() {
        let pool = UidPool::new(1000);
        let claimed = pool.claim(1000).unwrap();
        assert!(pool.claim(1000).is_none());
        assert_eq!(pool.take().get(), 1001);
        drop(claimed);
        assert_eq!(pool.take().get(), 1000);
    }
}
