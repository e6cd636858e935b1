//! The places for client connections, and which connection gives way when none is left.
//!
//! A connection takes a place before anything is known of its client. So that nobody can keep
//! others out by connecting and being slow, a connection that has shown no good token is cut when
//! its place is needed, the oldest first. Those that have shown one count for their microVM and its
//! account, each of which may have a part of all places. When such connections take every place,
//! the one gives way that has been idle longest among those of the account with the most.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_api::MicrovmId;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::activity::{Activity, Busy};
use crate::refusal::Refusal;

/// For how long a connection keeps its place in any case: clients that come in a rush, each with a
/// token, get their turn.
const GRACE: Duration = Duration::from_secs(2);

/// How many places there are; `None` is no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) all: usize,
    /// Of the proven connections of one microVM.
    pub(crate) microvm: Option<u32>,
    /// Of the proven connections to all microVMs of one account.
    pub(crate) account: Option<u32>,
}

/// A limited number of places; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    /// Cancelled when all connections are to be ended in an orderly way.
    soon: CancellationToken,
    state: Mutex<State>,
    /// A place has become free, or somebody can be made to give up his.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    next_number: u64,
    /// Those that have shown no good token, in their order of arrival.
    unproven: BTreeMap<u64, (Instant, CancellationToken)>,
    /// The others, but for those that are giving way.
    proven: BTreeMap<u64, Proven>,
    of_microvm: HashMap<MicrovmId, u32>,
    of_account: HashMap<Arc<str>, u32>,
}

#[derive(Debug)]
struct Proven {
    account: Arc<str>,
    gives_way: CancellationToken,
    activity: Activity,
}

/// The place of one connection, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    number: u64,
    needed: CancellationToken,
    gives_way: CancellationToken,
    activity: Activity,
    /// A good token has been shown: nothing is left to be noted of the requests that follow.
    is_proven: AtomicBool,
    holder: Mutex<Option<(MicrovmId, Arc<str>)>>,
}

impl Places {
    /// All connections end when `soon` is cancelled: what tells one to end is a child of it, so
    /// that each looks at one token.
    pub(crate) fn new(limits: Limits, soon: CancellationToken) -> Self {
        Self(Arc::new(Inner { limits, soon, state: Mutex::default(), freed: Notify::new() }))
    }

    /// Takes a place; waits while there is none that anybody could be made to give up.
    pub(crate) async fn take(&self) -> Place {
        loop {
            let freed = self.0.freed.notified();
            let again_at = {
                let mut state = self.lock();
                if state.taken < self.0.limits.all {
                    return self.taken(&mut state);
                }
                state.make_room()
            };
            match again_at {
                Some(again_at) => tokio::select! {
                    () = freed => {}
                    () = sleep_until(again_at) => {}
                },
                None => freed.await,
            }
        }
    }

    fn taken(&self, state: &mut State) -> Place {
        let (number, needed) = (state.next_number, CancellationToken::new());
        state.taken += 1;
        state.next_number += 1;
        state.unproven.insert(number, (Instant::now(), needed.clone()));
        Place {
            places: self.clone(),
            number,
            needed,
            gives_way: self.0.soon.child_token(),
            activity: Activity::begin(),
            is_proven: AtomicBool::new(false),
            holder: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Makes somebody give up his place; when to try again if nobody was found.
    fn make_room(&mut self) -> Option<Instant> {
        let Some(oldest) = self.unproven.first_entry() else {
            self.make_the_greatest_give_way();
            // A connection that is busy now may be idle then.
            return Some(Instant::now() + GRACE);
        };
        let over_at = oldest.get().0 + GRACE;
        if over_at > Instant::now() {
            return Some(over_at);
        }
        oldest.remove().1.cancel();
        None
    }

    fn make_the_greatest_give_way(&mut self) {
        let idle = self.proven.iter().filter(|(_, proven)| proven.activity.is_idle());
        let of_greatest = idle.max_by_key(|(_, proven)| {
            let count = self.of_account.get(&proven.account).copied().unwrap_or_default();
            (count, proven.activity.idle_for())
        });
        if let Some(number) = of_greatest.map(|(number, _)| *number)
            && let Some(proven) = self.proven.remove(&number)
        {
            proven.gives_way.cancel();
        }
    }

    /// Counts a connection for its microVM and account.
    fn count(&mut self, limits: &Limits, microvm: &MicrovmId, account: &Arc<str>) -> Result<(), Refusal> {
        let of_microvm = self.of_microvm.get(microvm).copied().unwrap_or_default();
        let of_account = self.of_account.get(account).copied().unwrap_or_default();
        let is_full = |count: u32, limit: Option<u32>| limit.is_some_and(|limit| count >= limit);
        if is_full(of_microvm, limits.microvm) || is_full(of_account, limits.account) {
            return Err(Refusal::TooManyRequests);
        }
        self.of_microvm.insert(microvm.clone(), of_microvm + 1);
        self.of_account.insert(Arc::clone(account), of_account + 1);
        Ok(())
    }

    fn discount(&mut self, microvm: &MicrovmId, account: &Arc<str>) {
        less(&mut self.of_microvm, microvm);
        less(&mut self.of_account, account);
    }
}

fn less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Place {
    /// It is kept from now on: whose it is has shown a good token for this microVM. Refused when
    /// the microVM, or the account that `account` names, has as many as it may.
    pub(crate) fn prove(
        &self,
        microvm: &MicrovmId,
        account: impl FnOnce() -> Arc<str>,
    ) -> Result<(), Refusal> {
        if self.is_proven.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        if holder.is_some() {
            return Ok(());
        }
        let account = account();
        let mut state = self.places.lock();
        state.count(&self.places.0.limits, microvm, &account)?;
        // It may have been told to go in this moment; it counts until it has gone.
        if state.unproven.remove(&self.number).is_some() {
            let (gives_way, activity) = (self.gives_way.clone(), self.activity.clone());
            state.proven.insert(self.number, Proven { account: Arc::clone(&account), gives_way, activity });
        }
        *holder = Some((microvm.clone(), account));
        self.is_proven.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn is_proven(&self) -> bool {
        self.is_proven.load(Ordering::Relaxed)
    }

    /// Cancelled when somebody else needs it and no good token was shown.
    pub(crate) fn needed(&self) -> CancellationToken {
        self.needed.clone()
    }

    /// Cancelled when its connection is to be ended in an orderly way.
    pub(crate) fn gives_way(&self) -> CancellationToken {
        self.gives_way.clone()
    }

    /// A request is under way.
    pub(crate) fn busy(&self) -> Busy {
        self.activity.request()
    }

    /// Whether none is.
    pub(crate) fn is_idle(&self) -> bool {
        self.activity.is_idle()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let holder = self.holder.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let mut state = self.places.lock();
        state.taken -= 1;
        state.unproven.remove(&self.number);
        state.proven.remove(&self.number);
        if let Some((microvm, account)) = holder {
            state.discount(&microvm, &account);
        }
        drop(state);
        self.places.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests;
