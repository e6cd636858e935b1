//! File work away from the async threads, shared fairly: all services wait for the same blocking
//! threads, so an account gets some of them at a time, and S3 not all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hearth_api::AccountId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::bucket::Bucket;
use super::disk::blocking;
use super::index::Look;
use super::{ObjectStorage, StorageError};

/// Threads that S3 takes, of the 512 that tokio has.
const THREADS: usize = 128;
/// Of these, what one account takes.
const THREADS_OF_ACCOUNT: usize = 16;
/// Listings at a time, which read the descriptions of all objects of a bucket.
const LISTINGS: usize = 16;
const LISTINGS_OF_ACCOUNT: usize = 2;
/// Preflights at a time, which nobody signs.
const UNSIGNED: usize = 8;

/// Places, and those of each account.
#[derive(Debug)]
struct Places {
    all: Arc<Semaphore>,
    of_account: usize,
    /// Of accounts that have work.
    accounts: Mutex<HashMap<AccountId, Arc<Semaphore>>>,
}

/// Held while work is done.
#[derive(Debug)]
#[expect(dead_code, reason = "they give back their places when dropped")]
struct Place(OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Places {
    fn new(all: usize, of_account: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), of_account, accounts: Mutex::default() }
    }

    async fn take(&self, account: &AccountId) -> Place {
        let own = {
            let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            // The map does not grow: those whom nobody waits for have all their places.
            accounts.retain(|_, places| {
                Arc::strong_count(places) > 1 || places.available_permits() < self.of_account
            });
            let new = || Arc::new(Semaphore::new(self.of_account));
            accounts.entry(account.clone()).or_insert_with(new).clone()
        };
        // First the account's own, so that nobody waits in the common queue who could not go on.
        let own = own.acquire_owned().await.expect("invariant: never closed");
        let common = self.all.clone().acquire_owned().await.expect("invariant: never closed");
        Place(own, common)
    }
}

/// Places for all file work and for listings.
#[derive(Debug)]
pub(super) struct Work {
    files: Places,
    listings: Places,
    /// For what is done for those who have not signed.
    unsigned: Semaphore,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            files: Places::new(THREADS, THREADS_OF_ACCOUNT),
            listings: Places::new(LISTINGS, LISTINGS_OF_ACCOUNT),
            unsigned: Semaphore::new(UNSIGNED),
        }
    }
}

impl ObjectStorage {
    /// Does file work that `account` asked for.
    pub(super) async fn work<T: Send + 'static, E: Send + 'static>(
        &self,
        account: &AccountId,
        work: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let place = self.work.files.take(account).await;
        blocking(move || {
            let outcome = work();
            drop(place);
            outcome
        })
        .await
    }

    /// Does file work that somebody asked for who may be anybody.
    pub(super) async fn unsigned<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let _place = self.work.unsigned.acquire().await.expect("invariant: never closed");
        let Ok(done) = blocking(move || Ok::<_, std::convert::Infallible>(work())).await;
        done
    }

    /// The bucket of this name, found for `account`. The disk is asked away from the async
    /// threads, and seldom.
    pub(super) async fn bucket(
        &self,
        account: &AccountId,
        name: &str,
    ) -> Result<Option<Arc<Bucket>>, StorageError> {
        match self.disk.index.look(name) {
            Look::Missing => return Ok(None),
            Look::Loaded(bucket) => return Ok(Some(bucket)),
            Look::Unloaded(_) => {}
        }
        let (disk, name) = (self.disk.clone(), name.to_owned());
        self.work(account, move || disk.find_any(&name)).await
    }

    /// Reads through a bucket, or all.
    pub(super) async fn list<T: Send + 'static, E: Send + 'static>(
        &self,
        account: &AccountId,
        work: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let _place = self.work.listings.take(account).await;
        self.work(account, work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_account_has_the_last_place() {
        let places = Places::new(5, 2);
        let [greedy, other] = ["000000000000", "111122223333"].map(AccountId::from_stored);
        let held = [places.take(&greedy).await, places.take(&greedy).await];
        let mut third = Box::pin(places.take(&greedy));
        assert!(futures::poll!(&mut third).is_pending());
        let others = [places.take(&other).await, places.take(&other).await];
        drop(held);
        assert!(futures::poll!(&mut third).is_ready());
        drop((third, others));
        drop(places.take(&other).await);
        assert_eq!(places.accounts.lock().unwrap().len(), 1);
    }
}
