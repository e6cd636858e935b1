//! Requests that last: how many of them an account may have at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hearth_api::AccountId;

/// The places of all accounts.
#[derive(Debug)]
pub struct Places {
    limit: u32,
    taken: Mutex<HashMap<AccountId, u32>>,
}

/// A place; it is given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    account: AccountId,
}

impl Places {
    /// So many for each account; 0 is no limit.
    pub fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default() })
    }

    /// How many an account may have.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// A place, if the account has one left.
    pub fn take(self: &Arc<Self>, account: &AccountId) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(account.clone()).or_default();
        if self.limit > 0 && *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), account: account.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_so_many_places_and_gets_them_back() {
        const LIMIT: u32 = 64;
        let [greedy, other] = ["1", "2"].map(AccountId::from_stored);
        let waiting = Places::new(LIMIT);
        let places: Vec<_> = (0..LIMIT).map(|_| waiting.take(&greedy).unwrap()).collect();
        assert!(waiting.take(&greedy).is_none());
        assert!(waiting.take(&other).is_some());
        drop(places);
        assert!(waiting.take(&greedy).is_some());
        assert!(waiting.taken.lock().unwrap().is_empty());
    }
}
