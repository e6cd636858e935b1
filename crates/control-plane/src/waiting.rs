//! Requests that wait for something to happen: each account has so many places.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hearth_api::AccountId;

/// Requests of an account that may wait at a time.
pub(crate) const WAITING: usize = 64;

/// How many requests of each account wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<HashMap<AccountId, usize>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Waiting, AccountId);

impl Waiting {
    /// A place, if the account has one left.
    pub(crate) fn take(&self, account: &AccountId) -> Option<Place> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entry(account.clone()).or_default();
        if *count >= WAITING {
            return None;
        }
        *count += 1;
        Some(Place(self.clone(), account.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_so_many_places_and_gets_them_back() {
        let [greedy, other] = ["1", "2"].map(AccountId::from_stored);
        let waiting = Waiting::default();
        let places: Vec<_> = (0..WAITING).map(|_| waiting.take(&greedy).unwrap()).collect();
        assert!(waiting.take(&greedy).is_none());
        assert!(waiting.take(&other).is_some());
        drop(places);
        assert!(waiting.take(&greedy).is_some());
        assert!(waiting.0.lock().unwrap().is_empty());
    }
}
