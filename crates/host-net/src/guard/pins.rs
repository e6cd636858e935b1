//! Addresses that were answers for allowed names: so a name is allowed without anybody having to
//! believe what a guest says it is going to.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use hearth_egress_policy::{Policy, Way};

/// Pins of one microVM. When there are as many, the quarter that was in an answer longest ago gives
/// way.
const PINS_MAX: usize = 4096;
/// Addresses of one answer, and pins that they may become; an answer with more is refused.
const ADDRESSES_MAX: usize = 64;
const PINS_OF_ANSWER_MAX: usize = PINS_MAX / 4;
/// Names of one pin; the one that would be good no more first gives way.
const NAMES_MAX: usize = 32;
/// How long an address stays a name's at least and at most. Guests remember answers for longer than
/// they are good for; a flow that was begun goes on.
const LIFE: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(1));

/// Where a name may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Pin {
    pub(crate) address: Ipv4Addr,
    pub(crate) way: Way,
    pub(crate) port: u16,
}

/// All of one microVM. [`Self::learn`] and the others say what is to be changed in the kernel's
/// set, which has the same.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    known: HashMap<Pin, Pinned>,
    answers: u64,
}

#[derive(Debug, Default)]
struct Pinned {
    /// For whom, and until when.
    names: HashMap<String, Instant>,
    /// Number of the last answer that it was in.
    answer: u64,
}

/// What is to be changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) added: Vec<Pin>,
    pub(crate) removed: Vec<Pin>,
}

impl Pins {
    /// Takes the addresses that an answer has for an allowed name; `None` if there are too many.
    pub(crate) fn learn(
        &mut self,
        policy: &Policy,
        name: &str,
        addresses: &[(Ipv4Addr, Duration)],
        now: Instant,
    ) -> Option<Changes> {
        let rules = policy.rules_of(name).into_iter().filter_map(|number| policy.rules().get(number - 1));
        let places: BTreeSet<(Way, u16)> =
            rules.flat_map(|rule| rule.ports.each().map(|port| (rule.way(port), port))).collect();
        let new = places.len() * addresses.len();
        if addresses.len() > ADDRESSES_MAX || new > PINS_OF_ANSWER_MAX {
            return None;
        }
        let mut changes = self.expire(now);
        self.answers += 1;
        if self.known.len() + new > PINS_MAX {
            self.give_way(&mut changes);
        }
        for (way, port) in places {
            for &(address, ttl) in addresses {
                let (pin, until) = (Pin { address, way, port }, now + ttl.clamp(LIFE.0, LIFE.1));
                if !self.known.contains_key(&pin) {
                    changes.added.push(pin);
                }
                let pinned = self.known.entry(pin).or_default();
                pinned.answer = self.answers;
                let names = &mut pinned.names;
                if names.len() >= NAMES_MAX && !names.contains_key(name) {
                    let first = names.iter().min_by_key(|(_, until)| **until).map(|(name, _)| name.clone());
                    first.map(|first| names.remove(&first));
                }
                let known = names.entry(name.to_owned()).or_insert(until);
                *known = until.max(*known);
            }
        }
        // What gave way and came again in one answer stays as it is.
        let back: HashSet<Pin> =
            changes.removed.iter().copied().filter(|pin| self.known.contains_key(pin)).collect();
        changes.removed.retain(|pin| !back.contains(pin));
        changes.added.retain(|pin| !back.contains(pin));
        Some(changes)
    }

    /// Forgets what is no longer good.
    pub(crate) fn expire(&mut self, now: Instant) -> Changes {
        let mut removed = Vec::new();
        self.known.retain(|pin, pinned| {
            pinned.names.retain(|_, until| *until > now);
            if pinned.names.is_empty() {
                removed.push(*pin);
            }
            !pinned.names.is_empty()
        });
        Changes { added: Vec::new(), removed }
    }

    /// Forgets the names that a policy does not allow.
    pub(crate) fn hold_to(&mut self, policy: &Policy) {
        let allowed = |pin: &Pin, name: &str| policy.rule_of_name(name, pin.way, pin.port).is_some();
        self.known.retain(|pin, pinned| {
            pinned.names.retain(|name, _| allowed(pin, name));
            !pinned.names.is_empty()
        });
    }

    /// All.
    pub(crate) fn all(&self) -> Vec<Pin> {
        self.known.keys().copied().collect()
    }

    /// Whether an answer for this name had the address.
    pub(crate) fn is_of(&self, pin: Pin, name: &str) -> bool {
        self.known.get(&pin).is_some_and(|pinned| pinned.names.contains_key(name))
    }

    /// A name whose address this is: the one that stays for longest.
    pub(crate) fn name_of(&self, pin: Pin) -> Option<&str> {
        self.known.get(&pin)?.names.iter().max_by_key(|(_, until)| **until).map(|(name, _)| name.as_str())
    }

    /// Makes room.
    fn give_way(&mut self, changes: &mut Changes) {
        let mut oldest: Vec<(u64, Pin)> =
            self.known.iter().map(|(pin, pinned)| (pinned.answer, *pin)).collect();
        oldest.sort_unstable();
        for (_, pin) in oldest.into_iter().take(PINS_MAX / 4) {
            self.known.remove(&pin);
            changes.removed.push(pin);
        }
    }
}

#[cfg(test)]
mod tests {
    use hearth_egress_policy::RuleText;

    use super::*;

    fn policy(domains: &[&str]) -> Policy {
        let rule = |domain: &&str| RuleText { domain: Some((*domain).to_owned()), ..RuleText::default() };
        Policy::parse(&domains.iter().map(rule).collect::<Vec<_>>()).unwrap()
    }

    fn pin(last: u8, port: u16) -> Pin {
        let way = if port == 80 { Way::Http } else { Way::Tls };
        Pin { address: Ipv4Addr::new(192, 0, 2, last), way, port }
    }

    #[test]
    fn an_address_is_open_while_an_answer_for_an_allowed_name_is_good() {
        let (mut pins, now, policy) = (Pins::default(), Instant::now(), policy(&["a.org", "b.org"]));
        let minutes = |minutes| Duration::from_mins(minutes);
        let mut learn =
            |name: &str, ttl, at| pins.learn(&policy, name, &[(pin(1, 0).address, ttl)], now + at).unwrap();
        let both = [pin(1, 80), pin(1, 443)];
        assert_eq!(learn("a.org", minutes(2), minutes(0)).added, both);
        assert_eq!(
            learn("b.org", minutes(3), minutes(0)),
            Changes::default(),
            "nothing for the kernel to do"
        );
        assert_eq!(learn("c.org", minutes(9), minutes(1)), Changes::default());
        assert_eq!(pins.name_of(both[0]), Some("b.org"));
        assert!(
            pins.is_of(both[1], "a.org") && !pins.is_of(both[1], "c.org") && !pins.is_of(pin(2, 80), "a.org")
        );
        assert_eq!(pins.expire(now + Duration::from_secs(179)), Changes::default());
        let mut removed = pins.expire(now + minutes(3)).removed;
        removed.sort_unstable();
        assert_eq!(removed, both);
        let mut learn = |ttl| pins.learn(&policy, "a.org", &[(pin(2, 0).address, ttl)], now).unwrap();
        learn(Duration::ZERO);
        learn(Duration::MAX / 4);
        assert_eq!(pins.expire(now + Duration::from_hours(1)).removed.len(), 2);
    }

    #[test]
    fn another_policy_keeps_what_it_allows() {
        let (mut pins, now) = (Pins::default(), Instant::now());
        let both = policy(&["a.org", "b.org"]);
        let address = |last| [(pin(last, 0).address, Duration::from_mins(5))];
        pins.learn(&both, "a.org", &address(1), now);
        pins.learn(&both, "b.org", &address(1), now);
        pins.learn(&both, "b.org", &address(2), now);
        pins.hold_to(&policy(&["a.org"]));
        let mut left = pins.all();
        left.sort();
        assert_eq!(left, [pin(1, 80), pin(1, 443)]);
        assert_eq!(pins.name_of(left[0]), Some("a.org"));
    }

    #[test]
    fn answers_without_end_take_bounded_room() {
        let (mut pins, now, policy) = (Pins::default(), Instant::now(), policy(&["*.a.org"]));
        for number in 0..3000_u32 {
            let address = Ipv4Addr::from_bits(0xc633_0000 + number);
            let changes = pins.learn(&policy, "x.a.org", &[(address, Duration::ZERO)], now).unwrap();
            assert_eq!((changes.added.len(), pins.all().len() <= PINS_MAX), (2, true));
        }
        for number in 0..100 {
            pins.learn(&policy, &format!("{number}.a.org"), &[(pin(1, 0).address, Duration::ZERO)], now);
        }
        assert!(pins.known[&pin(1, 80)].names.len() <= NAMES_MAX);
        assert!(pins.all().len() > PINS_MAX / 2);
        let many: Vec<_> = (0..65).map(|last| (Ipv4Addr::new(192, 0, 2, last), Duration::ZERO)).collect();
        assert_eq!(pins.learn(&policy, "x.a.org", &many, now), None);
    }
}
