//! How many temporary credentials there are: by whom they were asked for, and when they end.
//!
//! GetSessionToken needs no permission and AssumeRole may be allowed to anybody, so whoever has a
//! key can ask for as many sessions as it likes. Each takes memory, and a row that is read at each
//! start. What they take is counted against the user or root user at the beginning of the chain,
//! who cannot make itself another one. Its oldest sessions give way to new ones, so that it harms
//! nobody but itself, and is not locked out by its own mistake.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use hearth_api::{AccountId, Timestamp};

use crate::session::{Origin, Session, SessionOf};

/// Units of the sessions that one user, or root user, may have.
pub(crate) const MAXIMUM_OF_HOLDER: usize = 2_000;
/// Units of the sessions of all users of an account.
pub(crate) const MAXIMUM_OF_ACCOUNT: usize = 10_000;
/// A session counts once for each part of this many bytes, since policies and tags can be a
/// hundred times the rest.
const UNIT_BYTES: usize = 2 << 10;
/// Expired sessions that are forgotten at once. Others follow with the next session that is made.
const FORGOTTEN_AT_ONCE: usize = 100;

/// The order of sessions: by time in milliseconds, and key.
type Place = (i64, String);

/// All sessions in force, without what is in them.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_end: BTreeSet<Place>,
    accounts: HashMap<AccountId, Holders>,
}

/// Those who have sessions in an account.
#[derive(Debug, Default)]
struct Holders {
    units: usize,
    each: HashMap<Origin, Held>,
}

/// Sessions of one of them with their units, oldest first.
#[derive(Debug, Default)]
struct Held {
    units: usize,
    sessions: BTreeMap<Place, usize>,
}

impl Sessions {
    /// Counts a session whose row has this many bytes.
    pub(crate) fn insert(&mut self, session: &Session, bytes: usize) {
        let (account, holder) = holder(session);
        let units = units(bytes);
        self.by_end.insert(end(session));
        let holders = self.accounts.entry(account).or_default();
        let held = holders.each.entry(holder).or_default();
        held.sessions.insert(start(session), units);
        held.units += units;
        holders.units += units;
    }

    /// Forgets a session.
    pub(crate) fn remove(&mut self, session: &Session) {
        let (account, holder) = holder(session);
        self.by_end.remove(&end(session));
        let Some(holders) = self.accounts.get_mut(&account) else { return };
        let Some(held) = holders.each.get_mut(&holder) else { return };
        let units = held.sessions.remove(&start(session)).unwrap_or_default();
        held.units -= units;
        holders.units -= units;
        if held.sessions.is_empty() {
            holders.each.remove(&holder);
        }
        if holders.each.is_empty() {
            self.accounts.remove(&account);
        }
    }

    /// Keys of some sessions that ended before `now`.
    pub(crate) fn expired(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        let over = self.by_end.iter().take_while(move |(end, _)| *end < now.as_millis());
        over.take(FORGOTTEN_AT_ONCE).map(|(_, key)| key.as_str())
    }

    /// Keys of the sessions that have to end so that there is room for one whose row has this many
    /// bytes: the oldest of the same holder, and when the account has too many the oldest of the
    /// holder that has most.
    pub(crate) fn giving_way(&self, session: &Session, bytes: usize) -> Vec<&str> {
        let (account, holder) = holder(session);
        let units = units(bytes);
        let Some(holders) = self.accounts.get(&account) else { return Vec::new() };
        let mut ending = Vec::new();
        let own = holders.each.get(&holder);
        let excess = own.map_or(0, |own| (own.units + units).saturating_sub(MAXIMUM_OF_HOLDER));
        let mut freed = own.map_or(0, |own| own.end_oldest(excess, &mut ending));
        let excess = (holders.units + units).saturating_sub(MAXIMUM_OF_ACCOUNT);
        if freed < excess {
            (freed, ending) = (0, Vec::new());
            let mut largest: Vec<&Held> = holders.each.values().collect();
            largest.sort_unstable_by_key(|held| Reverse(held.units));
            for held in largest {
                freed += held.end_oldest(excess.saturating_sub(freed), &mut ending);
            }
        }
        ending
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.by_end.len()
    }
}

impl Held {
    /// Adds the keys of the oldest sessions that have `excess` units together; returns the
    /// units that they have.
    fn end_oldest<'a>(&'a self, excess: usize, ending: &mut Vec<&'a str>) -> usize {
        let mut freed = 0;
        for ((_, key), units) in &self.sessions {
            if freed >= excess {
                break;
            }
            freed += units;
            ending.push(key);
        }
        freed
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT_BYTES)
}

fn start(session: &Session) -> Place {
    (session.issued_at.as_millis(), session.access_key.clone())
}

fn end(session: &Session) -> Place {
    (session.expires_at.as_millis(), session.access_key.clone())
}

/// Against whom a session counts: the first of those without whom it would not have been made, who
/// has a key of its own.
fn holder(session: &Session) -> (AccountId, Origin) {
    let own = || session.account.clone();
    let first = session.origins.first().cloned().unwrap_or_else(|| match session.of.clone() {
        SessionOf::Root => Origin::RootKey(String::new()),
        SessionOf::User { name, id } => Origin::User { account: own(), name, id },
        SessionOf::Role { name, id, .. } => Origin::Role { account: own(), name, id },
    });
    let account = match &first {
        Origin::RootKey(_) => own(),
        Origin::User { account, .. } | Origin::Role { account, .. } => account.clone(),
    };
    (account, first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(of: u64) -> AccountId {
        AccountId::from_stored(format!("{of:012}"))
    }

    /// The session `n` that the user `name` of the first account has in the account `of`.
    fn session(name: &str, of: u64, n: i64) -> Session {
        let role = SessionOf::Role { name: "r".into(), id: "AROA1".into(), session: "s".into() };
        let user = Origin::User { account: account(1), name: name.into(), id: name.into() };
        let again = Origin::Role { account: account(of), name: "r".into(), id: "AROA1".into() };
        let mut session = Session::new(account(of), role, None, 900);
        session.origins = vec![user, again];
        session.access_key = format!("{name}{n}");
        session.issued_at = Timestamp::from_millis(n);
        session.expires_at = Timestamp::from_millis(n + 1_000);
        session
    }

    /// Adds a session after those that have to give way, as [`crate::Identities`] does.
    fn add(sessions: &mut Sessions, all: &mut HashMap<String, Session>, session: Session, bytes: usize) {
        let ending: Vec<String> =
            sessions.giving_way(&session, bytes).into_iter().map(str::to_owned).collect();
        for key in ending {
            sessions.remove(&all.remove(&key).unwrap());
        }
        sessions.insert(&session, bytes);
        all.insert(session.access_key.clone(), session);
    }

    /// The kind: sessions without number.
    #[test]
    fn the_oldest_of_whoever_has_most_gives_way() {
        let (mut sessions, mut all) = (Sessions::default(), HashMap::new());
        let count =
            |all: &HashMap<String, Session>, name: &str| all.keys().filter(|k| k.starts_with(name)).count();
        for n in 0..2_100 {
            // Roles of other accounts, and chains of roles, count against the same user.
            add(&mut sessions, &mut all, session("ann", n % 3, n.cast_signed()), 600);
        }
        assert_eq!(count(&all, "ann"), MAXIMUM_OF_HOLDER);
        assert!(!all.contains_key("ann99") && all.contains_key("ann100"), "the oldest ended");
        add(&mut sessions, &mut all, session("ann", 1, 5_000), 20 * UNIT_BYTES);
        assert_eq!(count(&all, "ann"), MAXIMUM_OF_HOLDER - 19, "a large one counts as often as it is large");

        add(&mut sessions, &mut all, session("bob", 1, 0), 600);
        for (n, name) in (0..12_000).zip(["cid", "dan", "eve", "fay", "gil"].into_iter().cycle()) {
            add(&mut sessions, &mut all, session(name, 1, n), 600);
        }
        assert!(all.contains_key("bob0"), "whoever has few keeps them");
        let units: usize = sessions.accounts[&account(1)].units;
        assert!(units <= MAXIMUM_OF_ACCOUNT, "{units}");
        assert_eq!(sessions.count(), all.len());
    }

    #[test]
    fn the_expired_are_found_by_their_end_and_nothing_is_left_of_what_is_removed() {
        let mut sessions = Sessions::default();
        let all: Vec<Session> = (0..300).map(|n| session("ann", 1, n)).collect();
        for session in &all {
            sessions.insert(session, 600);
        }
        let expired: Vec<&str> = sessions.expired(Timestamp::from_millis(1_002)).collect();
        assert_eq!(expired, ["ann0", "ann1"]);
        assert_eq!(sessions.expired(Timestamp::from_millis(9_000)).count(), FORGOTTEN_AT_ONCE);
        for session in &all {
            sessions.remove(session);
        }
        assert!(sessions.by_end.is_empty() && sessions.accounts.is_empty());
    }
}
