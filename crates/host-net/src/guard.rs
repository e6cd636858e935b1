//! Holds one network to a policy: what it may be told of names, where its flows may go, and the
//! log of both.
//!
//! The kernel decides about flows, by sets of the namespace's table (`rules`) that are filled here:
//! `services` and `open` from the policy's ranges, `pins` from the answers for its domains. A flow
//! that was let through carries the policy's fingerprint as its mark; one with another mark is
//! judged again, so that a changed policy holds for flows that were there before.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hearth_egress_gate::Kind as Gated;
use hearth_egress_policy::{Policy, Protocol, Way, domain};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::netfilter::flow_log::{FlowLog, Logged};
use crate::netfilter::sets::{Socket, Transaction};
use crate::network::Held;
use crate::rules::TABLE;
use crate::sockets::SocketOpener;

mod answer;
mod decisions;
mod elements;
mod gated;
mod pins;

pub use self::decisions::{Attempt, Decision, Decisions, Kind};
use self::pins::{Changes, Pin, Pins};

/// Between two looks for pins that are no longer good.
const EXPIRE_EVERY: Duration = Duration::from_secs(10);
/// Bytes of one reading of the flow log: the kernel sends up to a hundred packets at once.
const LOG_BYTES: usize = 64 << 10;
/// Numbers of protocols (RFC 790).
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// What the kernel and the DNS relay are told of a policy.
pub struct Guard {
    state: Mutex<State>,
    /// Told when there is another policy.
    changed: watch::Sender<()>,
    sets: Socket,
    /// Where connections are made that are looked into.
    outside: Outside,
    decisions: Arc<Decisions>,
    /// Whether no guest may reach an address, whatever its policy says.
    is_closed: Box<dyn Fn(Ipv4Addr) -> bool + Send + Sync>,
}

/// What is opened inside the namespace.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) sets: Socket,
    pub(crate) log: OwnedFd,
    /// Where connections to pinned addresses are led that are looked into.
    pub(crate) tls: std::net::TcpListener,
    pub(crate) http: std::net::TcpListener,
}

/// The way out of the namespace for connections of ours.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) namespace: Weak<OwnedFd>,
    pub(crate) opener: SocketOpener,
}

#[derive(Debug)]
struct State {
    policy: Arc<Policy>,
    pins: Pins,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("state", &self.state).finish_non_exhaustive()
    }
}

/// What becomes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// It is asked.
    Ask,
    /// There is no such name.
    NoName,
    /// The name has no records of the type.
    NoRecords,
}

impl Guard {
    /// Closes the namespace that the sockets are of to all that the policy does not allow, and
    /// begins to log.
    pub(crate) fn start(
        Held { policy, decisions }: Held,
        Opened { sets, log, tls, http }: Opened,
        outside: Outside,
        is_closed: impl Fn(Ipv4Addr) -> bool + Send + Sync + 'static,
    ) -> io::Result<(Arc<Self>, [JoinHandle<()>; 3])> {
        let state = Mutex::new(State { policy: Arc::clone(&policy), pins: Pins::default() });
        let is_closed = Box::new(is_closed);
        let changed = watch::Sender::new(());
        let guard = Arc::new(Self { state, changed, sets, outside, decisions, is_closed });
        guard.apply(&mut guard.state(), policy)?;
        let gate = |kind, listener| {
            let listener = TcpListener::from_std(listener)?;
            Ok::<_, io::Error>(tokio::spawn(hearth_egress_gate::serve(kind, listener, Arc::clone(&guard))))
        };
        let gates = (gate(Gated::Tls, tls)?, gate(Gated::Http, http)?);
        let watch = tokio::spawn(Arc::clone(&guard).watch(FlowLog::new(log)?));
        Ok((guard, [watch, gates.0, gates.1]))
    }

    /// Holds the network to another policy from now on, the flows that it has too. Takes the kernel
    /// some milliseconds for thousands of ranges.
    ///
    /// # Errors
    /// The kernel's. What is not known to be held is closed: the network reaches nothing then.
    pub fn set_policy(&self, policy: Arc<Policy>) -> io::Result<()> {
        let mut state = self.state();
        if state.policy == policy {
            return Ok(());
        }
        let applied = self.apply(&mut state, policy);
        if applied.is_err() {
            state.policy = Arc::default();
            if let Err(error) = self.apply(&mut state, Arc::default()) {
                tracing::error!(%error, "a network could not be closed");
            }
        }
        drop(state);
        self.changed.send_replace(());
        applied
    }

    /// All in one transaction.
    fn apply(&self, state: &mut State, policy: Arc<Policy>) -> io::Result<()> {
        state.pins.expire(Instant::now());
        state.pins.hold_to(&policy);
        let mut change = Transaction::of(TABLE);
        for set in ["unruled", "services", "open", "quic", "pins", "tls", "http", "current", "generation"] {
            change.flush(set);
        }
        let pinned = elements::of_pins(&state.pins.all());
        for (set, elements) in pinned.into_iter().chain(elements::of_policy(&policy)) {
            change.add(set, &elements);
        }
        change.commit(&self.sets)?;
        state.policy = policy;
        Ok(())
    }

    /// What has been decided.
    pub fn decisions(&self) -> Arc<Decisions> {
        Arc::clone(&self.decisions)
    }

    /// Judges a question for a name, which is in the message's spelling, and logs it.
    pub(crate) fn question(&self, name: Option<&str>, record_type: u16) -> Question {
        let normalised = name.and_then(domain::normalised);
        let rules = normalised.as_deref().map(|name| self.state().policy.rules_of(name)).unwrap_or_default();
        let rule = rules.first().copied();
        let question = match rule {
            None => Question::NoName,
            // They have addresses of their own, and keys under which names are hidden.
            Some(_) if answer::is_service_binding(record_type) => Question::NoRecords,
            Some(_) => Question::Ask,
        };
        if rule.is_none() {
            self.log_question(normalised.as_deref().or(name), None, None);
        }
        question
    }

    /// Takes what the answer for an allowed name says, and tells the kernel before the guest knows.
    /// False if the guest is not to get it.
    pub(crate) fn answered(&self, name: &str, answer: &[u8]) -> bool {
        let Some(name) = domain::normalised(name) else { return false };
        let Some(addresses) = answer::addresses(answer) else {
            self.log_question(Some(&name), None, Some("its answer cannot be read"));
            return false;
        };
        if addresses.iter().any(|(address, _)| (self.is_closed)(*address)) {
            self.log_question(Some(&name), None, Some("its answer has an address that is closed to guests"));
            return false;
        }
        let mut state = self.state();
        let State { policy, pins } = &mut *state;
        // The policy may have changed while somebody else was asked.
        let Some(rule) = policy.rules_of(&name).first().copied() else { return false };
        let Some(changes) = pins.learn(policy, &name, &addresses, Instant::now()) else {
            drop(state);
            self.log_question(Some(&name), None, Some("its answer has more addresses than one may have"));
            return false;
        };
        if let Err(error) = self.write(&changes) {
            tracing::error!(%error, "the addresses of an allowed name could not be opened");
            return false;
        }
        drop(state);
        self.log_question(Some(&name), Some(rule), None);
        true
    }

    fn log_question(&self, name: Option<&str>, rule: Option<usize>, why: Option<&'static str>) {
        let name = name.map(|name| name.chars().take(256).collect());
        let attempt = Attempt { kind: Kind::Dns, name, address: None, port: 0, allowed: rule.is_some() };
        self.decisions.add(attempt, rule, why);
    }

    fn write(&self, changes: &Changes) -> io::Result<()> {
        if *changes == Changes::default() {
            return Ok(());
        }
        let mut change = Transaction::of(TABLE);
        for (set, elements) in elements::of_pins(&changes.removed) {
            change.remove(set, &elements);
        }
        for (set, elements) in elements::of_pins(&changes.added) {
            change.add(set, &elements);
        }
        change.commit(&self.sets)
    }

    /// Logs flows, and closes what is no longer good.
    async fn watch(self: Arc<Self>, log: FlowLog) {
        let mut buffer = vec![0; LOG_BYTES];
        let mut expire = tokio::time::interval(EXPIRE_EVERY);
        loop {
            let read = tokio::select! {
                read = log.next(&mut buffer) => read,
                _ = expire.tick() => {
                    let mut state = self.state();
                    let changes = state.pins.expire(Instant::now());
                    if let Err(error) = self.write(&changes) {
                        tracing::error!(%error, "addresses of allowed names could not be closed");
                    }
                    continue;
                }
            };
            match read {
                Ok(Some(packets)) => packets.into_iter().for_each(|packet| self.log_flow(&packet)),
                Ok(None) => self.decisions.add_lost(),
                Err(error) => return tracing::error!(%error, "egress is no longer logged"),
            }
        }
    }

    fn log_flow(&self, packet: &Logged) {
        let Logged { prefix, protocol, address, port } = packet;
        let (known, way) = match *protocol {
            TCP => (Protocol::Tcp, Some(Way::Tcp)),
            UDP => (Protocol::Udp, Some(Way::Udp)),
            _ => (Protocol::Any, None),
        };
        let state = self.state();
        let by_name = way.and_then(|way| {
            let name = state.pins.name_of(Pin { address: *address, way, port: *port })?;
            Some((name.to_owned(), state.policy.rule_of_name(name, way, *port)?))
        });
        let rule = by_name.as_ref().map(|(_, rule)| *rule);
        let rule = rule.or_else(|| state.policy.rule_of_address(*address, known, *port));
        let name = by_name.map(|(name, _)| name);
        drop(state);
        let allowed = prefix == ALLOWED;
        let why = (!allowed && (self.is_closed)(*address)).then_some("it is closed to guests");
        let kind = Kind::Flow(*protocol);
        let attempt = Attempt { kind, name, address: Some(*address), port: *port, allowed };
        self.decisions.add(attempt, rule.filter(|_| allowed), why);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prefixes of what rules log.
pub(crate) const ALLOWED: &str = "allowed";
pub(crate) const REFUSED: &str = "refused";
/// The group that they log to.
pub(crate) const LOG_GROUP: u16 = 1;
