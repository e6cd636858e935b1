//! What a policy has let a guest do, and what not.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Decisions of one microVM that are kept, half of them refusals; of either kind, the one that was
/// first made longest ago gives way.
const DECISIONS_MAX: usize = 1024;

/// What was tried.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// By what.
    pub kind: Kind,
    /// Name that was asked for, or whose address it is, where that is known.
    pub name: Option<String>,
    /// Address; of a question for a name none.
    pub address: Option<Ipv4Addr>,
    /// Port; 0 where there is none.
    pub port: u16,
    /// Whether it was allowed.
    pub allowed: bool,
}

/// By what something was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A question for a name.
    Dns,
    /// A flow of this protocol (its number in IP's header).
    Flow(u8),
}

impl Kind {
    /// A flow of TCP.
    pub const TCP: Self = Self::Flow(super::TCP);
    /// A flow of UDP.
    pub const UDP: Self = Self::Flow(super::UDP);
}

/// An attempt, and how often it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What was tried.
    pub attempt: Attempt,
    /// Number of the rule that allowed it, the last time.
    pub rule: Option<usize>,
    /// Why it was refused, where it was not for want of a rule.
    pub why: Option<&'static str>,
    /// The first time.
    pub first: SystemTime,
    /// The last time.
    pub last: SystemTime,
    /// How often.
    pub count: u64,
}

/// The decisions about one microVM.
#[derive(Debug, Default)]
pub struct Decisions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    made: HashMap<Attempt, Decision>,
    /// The keys of `made` in the order in which they were first made: first refusals, then what was
    /// allowed. Each has its own limit, so that refusals, which cost a guest nothing, do not push
    /// out what it has reached.
    order: [VecDeque<Attempt>; 2],
    lost: u64,
}

impl Decisions {
    pub(crate) fn add(&self, attempt: Attempt, rule: Option<usize>, why: Option<&'static str>) {
        let now = SystemTime::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = state.made.get_mut(&attempt) {
            known.count += 1;
            (known.last, known.rule, known.why) = (now, rule, why);
            return;
        }
        let kind = usize::from(attempt.allowed);
        if state.order[kind].len() >= DECISIONS_MAX / 2 {
            let oldest = state.order[kind].pop_front();
            oldest.map(|oldest| state.made.remove(&oldest));
            state.lost += 1;
        }
        let decision = Decision { attempt: attempt.clone(), rule, why, first: now, last: now, count: 1 };
        state.order[kind].push_back(attempt.clone());
        state.made.insert(attempt, decision);
    }

    /// Some that could not be read in time are missing.
    pub(crate) fn add_lost(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lost += 1;
    }

    /// All that are kept, by the time that they were first made, and how many are not, or how often
    /// some were not seen.
    pub fn list(&self) -> (Vec<Decision>, u64) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut made: Vec<_> = state.made.values().cloned().collect();
        made.sort_by_key(|decision| decision.first);
        (made, state.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(port: u16) -> Attempt {
        Attempt { kind: Kind::Flow(6), name: None, address: Some(Ipv4Addr::LOCALHOST), port, allowed: false }
    }

    #[test]
    fn the_same_again_is_counted_and_the_oldest_gives_way() {
        let decisions = Decisions::default();
        for _ in 0..3 {
            decisions.add(attempt(1), None, None);
        }
        decisions.add(attempt(1), Some(2), Some("why"));
        let (made, lost) = decisions.list();
        assert_eq!(
            (made.len(), made[0].count, made[0].rule, made[0].why, lost),
            (1, 4, Some(2), Some("why"), 0)
        );
        let kept = DECISIONS_MAX / 2;
        decisions.add(Attempt { allowed: true, ..attempt(1) }, Some(1), None);
        for port in 2..=1 + u16::try_from(kept).unwrap() {
            decisions.add(attempt(port), None, None);
        }
        let (made, lost) = decisions.list();
        assert_eq!((made.len(), made[0].attempt.allowed, made[1].attempt.port, lost), (kept + 1, true, 2, 1));
    }
}
