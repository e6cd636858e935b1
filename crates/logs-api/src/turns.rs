//! Reading in turns: all reads of logs go through a few connections and, where lines are matched, a
//! few threads. An account has some of them at a time, and a bounded number of its calls wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hearth_api::{AccountId, ErrorKind};
use hearth_records::LOG_READERS;
use hearth_service::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Turns that an account has at a time, of as many as there are connections.
const TURNS_OF_ACCOUNT: usize = 2;
/// Calls of an account that read or wait for it.
const CALLS_OF_ACCOUNT: usize = 128;

/// Turns of all accounts.
#[derive(Debug)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    /// Of accounts that have calls.
    accounts: Mutex<HashMap<AccountId, Calls>>,
}

#[derive(Debug)]
struct Calls {
    turns: Arc<Semaphore>,
    count: usize,
}

/// A call that reads or waits for it; counted until it and its turns are dropped.
pub(super) struct Reader {
    turns: Arc<Turns>,
    account: AccountId,
    own: Arc<Semaphore>,
}

/// Held while something is read or matched.
pub(super) struct Turn {
    _call: Arc<Reader>,
    _own: OwnedSemaphorePermit,
    _common: OwnedSemaphorePermit,
}

impl Turns {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { all: Arc::new(Semaphore::new(LOG_READERS as usize)), accounts: Mutex::default() })
    }

    /// Waits for a turn, unless too many of the account's calls wait already.
    pub(super) async fn take(self: &Arc<Self>, account: &AccountId) -> Result<Turn, Error> {
        Ok(self.enter(account)?.turn().await)
    }

    /// A call that takes turn after turn, and is not refused between them.
    pub(super) fn enter(self: &Arc<Self>, account: &AccountId) -> Result<Arc<Reader>, Error> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = accounts
            .entry(account.clone())
            .or_insert_with(|| Calls { turns: Arc::new(Semaphore::new(TURNS_OF_ACCOUNT)), count: 0 });
        if calls.count >= CALLS_OF_ACCOUNT {
            return Err(Error::new(ErrorKind::Throttling, "Rate exceeded"));
        }
        calls.count += 1;
        Ok(Arc::new(Reader { turns: self.clone(), account: account.clone(), own: calls.turns.clone() }))
    }
}

impl Reader {
    /// Waits for a turn.
    pub(super) async fn turn(self: &Arc<Self>) -> Turn {
        // First the account's own, so that nobody waits in the common queue who could not go on.
        let own = self.own.clone().acquire_owned().await.expect("invariant: never closed");
        let common = self.turns.all.clone().acquire_owned().await.expect("invariant: never closed");
        Turn { _call: self.clone(), _own: own, _common: common }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut accounts = self.turns.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = accounts.get_mut(&self.account) {
            calls.count -= 1;
            if calls.count == 0 {
                accounts.remove(&self.account);
            }
        }
    }
}

impl Turn {
    /// Works away from the async threads, and ends the turn.
    pub(super) async fn work<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let work = move || {
            let outcome = work();
            drop(self);
            outcome
        };
        tokio::task::spawn_blocking(work).await.expect("invariant: matching does not panic")
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    fn accounts() -> [AccountId; 2] {
        ["000000000000", "111122223333"].map(AccountId::from_stored)
    }

    /// The kind: nobody can use the last of anything.
    #[tokio::test]
    async fn no_account_has_the_last_connection_or_waits_without_end() {
        let turns = Turns::new();
        let [greedy, other] = accounts();
        let held = [turns.take(&greedy).await.unwrap(), turns.take(&greedy).await.unwrap()];
        let mut waiting: Vec<_> =
            (held.len()..CALLS_OF_ACCOUNT).map(|_| Box::pin(turns.take(&greedy))).collect();
        for call in &mut waiting {
            assert!(futures::poll!(call).is_pending());
        }
        let one_more = Box::pin(turns.take(&greedy));
        let Poll::Ready(Err(refused)) = futures::poll!(one_more) else { panic!("it waits as well") };
        assert_eq!(refused.code.name(), "ThrottlingException");
        let others = [turns.take(&other).await.unwrap(), turns.take(&other).await.unwrap()];
        drop(held);
        assert!(matches!(futures::poll!(&mut waiting[0]), Poll::Ready(Ok(_))));
        drop((waiting, others));
        assert_eq!(turns.accounts.lock().unwrap().len(), 0);
    }

    /// The kind: what was read is not thrown away because others came meanwhile.
    #[tokio::test]
    async fn a_call_that_has_begun_is_not_refused_between_its_turns() {
        let turns = Turns::new();
        let [account, _] = accounts();
        let begun = turns.enter(&account).unwrap();
        drop(begun.turn().await);
        let others: Vec<_> = (1..CALLS_OF_ACCOUNT).map(|_| turns.enter(&account).unwrap()).collect();
        assert!(turns.enter(&account).is_err());
        drop(begun.turn().await);
        drop((begun, others));
        assert_eq!(turns.accounts.lock().unwrap().len(), 0);
    }

    /// The kind: what takes long is not done where everybody's requests are.
    #[tokio::test]
    async fn a_turn_works_on_a_thread_of_its_own_and_lasts_as_long() {
        let turns = Turns::new();
        let [account, _] = accounts();
        let turn = turns.take(&account).await.unwrap();
        let there = turns.clone();
        let (thread, free) =
            turn.work(move || (std::thread::current().id(), there.all.available_permits())).await;
        assert_ne!(thread, std::thread::current().id());
        assert_eq!((free, turns.all.available_permits()), (LOG_READERS as usize - 1, LOG_READERS as usize));
    }
}
