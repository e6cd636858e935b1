//! Places that accounts share fairly: accounts that wait get one in turn, and none
//! holds more than its part.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_api::AccountId;
use tokio::sync::oneshot;

/// Places for what is limited over all accounts.
#[derive(Debug, Clone)]
pub(crate) struct FairSlots {
    total: usize,
    per_account: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<AccountId, usize>,
    /// Accounts that wait, the one whose turn it is first; each with those of its own in the
    /// order of their coming.
    waiting: VecDeque<(AccountId, VecDeque<oneshot::Sender<Slot>>)>,
}

/// A place, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    account: AccountId,
    slots: FairSlots,
}

impl FairSlots {
    /// So many places, of which one account may hold `per_account`; both are at least 1.
    pub(crate) fn new(total: usize, per_account: usize) -> Self {
        Self { total: total.max(1), per_account: per_account.max(1), state: Arc::default() }
    }

    /// Waits for a place. Cancelling gives up the turn.
    pub(crate) async fn acquire(&self, account: &AccountId) -> Slot {
        let (slot_tx, slot_rx) = oneshot::channel();
        {
            let mut state = self.state();
            match state.waiting.iter_mut().find(|(waiting, _)| waiting == account) {
                Some((_, own)) => own.push_back(slot_tx),
                None => state.waiting.push_back((account.clone(), VecDeque::from([slot_tx]))),
            }
        }
        self.hand_out();
        slot_rx.await.expect("invariant: who waits stays in the queue until it gets a place")
    }

    /// How many wait for a place of this account.
    pub(crate) fn waiting(&self, account: &AccountId) -> usize {
        let state = self.state();
        let own = state.waiting.iter().find(|(waiting, _)| waiting == account);
        own.map_or(0, |(_, waiters)| waiters.iter().filter(|waiter| !waiter.is_closed()).count())
    }

    /// Whether a place would be had at once.
    pub(crate) fn is_free_for(&self, account: &AccountId) -> bool {
        let state = self.state();
        let own = |account: &AccountId| state.held.get(account).copied().unwrap_or_default();
        let waits = |(other, waiters): &(AccountId, VecDeque<oneshot::Sender<Slot>>)| {
            own(other) < self.per_account && waiters.iter().any(|waiter| !waiter.is_closed())
        };
        let all: usize = state.held.values().sum();
        all < self.total && own(account) < self.per_account && !state.waiting.iter().any(waits)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_out(&self) {
        while let Some((waiter, slot)) = self.next() {
            // A waiter that has given up meanwhile drops the place, which hands it out again.
            drop(waiter.send(slot));
        }
    }

    /// The next to get a place, if there is one for anybody who waits.
    fn next(&self) -> Option<(oneshot::Sender<Slot>, Slot)> {
        let mut state = self.state();
        let state = &mut *state;
        for (_, own) in &mut state.waiting {
            own.retain(|waiter| !waiter.is_closed());
        }
        state.waiting.retain(|(_, own)| !own.is_empty());
        if state.held.values().sum::<usize>() >= self.total {
            return None;
        }
        let held = &state.held;
        let has_room = |account| held.get(account).copied().unwrap_or_default() < self.per_account;
        let turn = state.waiting.iter().position(|(account, _)| has_room(account))?;
        let (account, mut own) = state.waiting.remove(turn)?;
        let waiter = own.pop_front()?;
        if !own.is_empty() {
            state.waiting.push_back((account.clone(), own));
        }
        *state.held.entry(account.clone()).or_default() += 1;
        Some((waiter, Slot { account, slots: self.clone() }))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut state = self.slots.state();
            if let Some(held) = state.held.get_mut(&self.account) {
                *held -= 1;
                if *held == 0 {
                    state.held.remove(&self.account);
                }
            }
        }
        self.slots.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn account(digit: u8) -> AccountId {
        AccountId::from_stored(digit.to_string().repeat(12))
    }

    type Waiting = Pin<Box<dyn Future<Output = Slot>>>;

    /// A place that is waited for.
    fn waiting(slots: &FairSlots, digit: u8) -> Waiting {
        let slots = slots.clone();
        Box::pin(async move { slots.acquire(&account(digit)).await })
    }

    #[tokio::test]
    async fn an_account_that_comes_later_does_not_wait_for_all_of_another() {
        let slots = FairSlots::new(2, 2);
        let first = [slots.acquire(&account(1)).await, slots.acquire(&account(1)).await];
        let mut more: Vec<_> = (0..5).map(|_| waiting(&slots, 1)).collect();
        let mut other = waiting(&slots, 2);
        for one in &mut more {
            assert!(one.now_or_never().is_none());
        }
        assert!((&mut other).now_or_never().is_none());
        let [one, two] = first;
        drop(one);
        let _third = (&mut more[0]).now_or_never().expect("the first that came");
        drop(two);
        assert!((&mut other).now_or_never().is_some(), "the other account has its turn");
    }

    #[tokio::test]
    async fn no_account_holds_the_last_place() {
        let slots = FairSlots::new(3, 2);
        let _held = [slots.acquire(&account(1)).await, slots.acquire(&account(1)).await];
        assert!(!slots.is_free_for(&account(1)));
        assert!(slots.acquire(&account(1)).now_or_never().is_none());
        assert!(slots.is_free_for(&account(2)));
        assert!(slots.acquire(&account(2)).now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_gives_up_takes_nobody_s_place() {
        let slots = FairSlots::new(1, 1);
        let held = slots.acquire(&account(1)).await;
        let mut given_up = waiting(&slots, 2);
        assert!((&mut given_up).now_or_never().is_none());
        let mut third = waiting(&slots, 3);
        assert!((&mut third).now_or_never().is_none());
        drop(given_up);
        drop(held);
        assert!(third.now_or_never().is_some());
    }

    proptest! {
        #[test]
        fn places_are_never_too_many_and_never_idle(steps in prop::collection::vec((1_u8..4, any::<bool>()), 1..60)) {
            let slots = FairSlots::new(3, 2);
            let mut held: Vec<Slot> = Vec::new();
            let mut queue: Vec<(u8, Waiting)> = Vec::new();
            for (digit, comes) in steps {
                if comes {
                    queue.push((digit, waiting(&slots, digit)));
                } else if !held.is_empty() {
                    held.remove(usize::from(digit) % held.len());
                }
                queue.retain_mut(|(_, acquiring)| match acquiring.as_mut().now_or_never() {
                    Some(slot) => {
                        held.push(slot);
                        false
                    }
                    None => true,
                });
                prop_assert!(held.len() <= 3);
                let of = |digit: u8| held.iter().filter(|slot| slot.account == account(digit)).count();
                for digit in 1..4 {
                    prop_assert!(of(digit) <= 2);
                }
                let could = queue.iter().any(|(digit, _)| of(*digit) < 2);
                prop_assert!(held.len() == 3 || !could, "a place is free and somebody waits for it");
            }
        }
    }
}
