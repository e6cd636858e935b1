//! The places for connections to the API, and which of them give way.
//!
//! A client takes a place before anything is known of it. When all are taken and another client
//! wants one, a connection without a request gives way: one of a client with more than an eighth of
//! all places, if there is such a client, otherwise the one that has been idle longest. SDKs open
//! another. When every connection has a request, one request is cut ([`Reason`]):
//!
//! - One that crawls, which is less than [`BYTES_PER_SECOND`] while the server waited for its
//!   client. Among those, the oldest of the client with the most connections.
//! - Otherwise one of a client with more than an eighth of all places, the oldest: first one whose
//!   client the server waits for, then one that the server works on. Changes are finished anyway.
//!
//! A cap for each client would leave places empty that nobody else wants, and two accounts at their
//! caps would still hold everything. Nothing is cut while there are places: an upload may take
//! hours then.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_data_plane::Activity;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::api_progress::Progress;

/// For how long a connection that has had no request yet keeps its place in any case.
const GRACE: Duration = Duration::from_secs(2);
/// For how long one with a request does, from when it was first looked at.
const BUSY_GRACE: Duration = Duration::from_secs(10);
/// For how long a client is waited for until its pace is taken. The kernel tells that there is room
/// for more of an answer when a third of its buffer is free, which takes a client of some 50 KB/s
/// 25 s.
const PACE_TIME: Duration = Duration::from_secs(30);
/// Pace below which a request crawls, the same that short bodies must have.
const BYTES_PER_SECOND: u64 = 32 << 10;
/// A client with more than this part of all places can lose requests that do not crawl.
const LARGE_PART: usize = 8;
/// With no more places than this, a client loses none of those.
const SMALL_COUNT: usize = 3;
/// Between two looks for one that gives way, while there is none that could.
const PAUSE: Duration = Duration::from_millis(50);

/// A limited number of places; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    all: usize,
    free: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
}

/// The connections that have a place.
#[derive(Debug, Default)]
struct Taken {
    next_number: u64,
    connections: HashMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    activity: Activity,
    progress: Progress,
    needed: CancellationToken,
    cut: CancellationToken,
    seen: Option<Seen>,
}

/// What was seen of a connection with requests since there were too few places.
#[derive(Debug)]
struct Seen {
    /// Whose it is.
    source: u64,
    /// When it was last looked at, and the end of its last request then.
    looked: Instant,
    last_end: u64,
    first: Instant,
    /// Whether its client was waited for then, for how long that was while its pace is taken, and
    /// what had been moved before.
    waits: bool,
    waited: Duration,
    moved: u64,
    crawls: bool,
}

/// Why a request is made to give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// The server is at work for it, and its holder has a large part of all places.
    HasMost,
    /// Its holder has a large part of all places, and its client is waited for.
    WaitsForClient,
    /// Its client is waited for, and slow.
    Crawls,
}

/// The place of one connection, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Arc<Mutex<Taken>>,
    needed: CancellationToken,
    cut: CancellationToken,
    number: u64,
    activity: Activity,
    progress: Progress,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new(all: usize) -> Self {
        Self { all, free: Arc::new(Semaphore::new(all)), taken: Arc::default() }
    }

    /// Takes a place; waits while there is none that could be made free.
    pub(crate) async fn take(&self) -> Place {
        loop {
            if self.free.available_permits() == 0 {
                lock(&self.taken).make_room(self.all);
            }
            if let Ok(Ok(permit)) = timeout(PAUSE, Arc::clone(&self.free).acquire_owned()).await {
                return self.place(permit);
            }
        }
    }

    fn place(&self, permit: OwnedSemaphorePermit) -> Place {
        let (activity, progress) = (Activity::begin(), Progress::default());
        let (needed, cut) = (CancellationToken::new(), CancellationToken::new());
        let mut taken = lock(&self.taken);
        let number = taken.next_number;
        taken.next_number += 1;
        let connection = Connection {
            activity: activity.clone(),
            progress: progress.clone(),
            needed: needed.clone(),
            cut: cut.clone(),
            seen: None,
        };
        taken.connections.insert(number, connection);
        let taken = Arc::clone(&self.taken);
        Place { taken, needed, cut, number, activity, progress, _permit: permit }
    }
}

impl Taken {
    /// Tells one to give way, if one can.
    fn make_room(&mut self, all: usize) {
        if let Some(idle) = self.longest_idle(all) {
            idle.needed.cancel();
        } else if let Some(busy) = self.busy_of_whoever_has_most(all) {
            busy.cut.cancel();
            busy.needed.cancel();
        }
    }

    /// One that may still have its first request before it goes only if nobody else is without one.
    fn longest_idle(&self, all: usize) -> Option<&Connection> {
        let counts = self.counts(|connection| connection.progress.holder());
        let idle = self.connections.iter().filter(|(_, Connection { activity, progress, needed, .. })| {
            let had_its_turn = activity.last_end() > 0 || activity.idle_for() >= GRACE;
            is_idle(activity, progress) && had_its_turn && !needed.is_cancelled()
        });
        let longest = idle.max_by_key(|(number, Connection { activity, progress, .. })| {
            let has_large_part = is_large(counts[&progress.holder()], all);
            (activity.idle_for() >= GRACE, has_large_part, activity.idle_for(), Reverse(**number))
        });
        longest.map(|(_, connection)| connection)
    }

    fn counts<K: Eq + Hash>(&self, key: impl Fn(&Connection) -> K) -> HashMap<K, usize> {
        let mut counts = HashMap::new();
        for connection in self.connections.values() {
            *counts.entry(key(connection)).or_default() += 1;
        }
        counts
    }

    fn busy_of_whoever_has_most(&mut self, all: usize) -> Option<&Connection> {
        // One that was cut is gone in a moment.
        if self.connections.values().any(|connection| connection.cut.is_cancelled()) {
            return None;
        }
        for connection in self.connections.values_mut() {
            connection.look();
        }
        let of = |connection: &Connection| (connection.progress.holder(), connection.progress.source());
        let by_holder = self.counts(|connection| of(connection).0);
        // A presigned URL makes strangers' connections the signer's: theirs are to go, and not its
        // own.
        let by_source = self.counts(of);
        let candidates = self.connections.iter().filter_map(|(number, connection)| {
            let seen = connection.seen.as_ref().filter(|seen| seen.first.elapsed() >= BUSY_GRACE)?;
            let count = by_holder[&of(connection).0];
            let reason = connection.reason_to_go(seen, is_large(count, all))?;
            let key = (reason, count, by_source[&of(connection)], Reverse(seen.first), Reverse(*number));
            Some((key, connection))
        });
        candidates.max_by_key(|(key, _)| *key).map(|(_, connection)| connection)
    }
}

impl Connection {
    /// Why it may be made to give way with its request, the better reason the greater.
    fn reason_to_go(&self, seen: &Seen, has_large_part: bool) -> Option<Reason> {
        let waits = self.progress.waits_for_client();
        match (waits, has_large_part) {
            _ if is_idle(&self.activity, &self.progress) => None,
            (true, _) if seen.crawls => Some(Reason::Crawls),
            (true, true) => Some(Reason::WaitsForClient),
            (false, true) => Some(Reason::HasMost),
            (_, false) => None,
        }
    }

    /// Looks at what is done now. Requests that follow one another are seen as one, or a client
    /// would only have to begin another in time; those of another client, behind a proxy, are not.
    fn look(&mut self) {
        let (is_busy, now) = (!is_idle(&self.activity, &self.progress), Instant::now());
        let (last_end, moved) = (self.activity.last_end(), self.progress.moved());
        let (source, waits) = (self.progress.source(), is_busy && self.progress.waits_for_client());
        let is_other = |seen: &Seen| {
            seen.source != source || seen.last_end != last_end && now - seen.looked > BUSY_GRACE
        };
        if is_busy && self.seen.as_ref().is_none_or(is_other) {
            self.seen = Some(Seen {
                source,
                last_end,
                looked: now,
                first: now,
                waits,
                waited: Duration::ZERO,
                moved,
                crawls: false,
            });
        }
        let Some(seen) = &mut self.seen else { return };
        // What the server took is not the client's.
        if seen.waits && waits {
            seen.waited += now - seen.looked;
        }
        (seen.last_end, seen.looked, seen.waits) = (last_end, now, waits);
        if seen.waited >= PACE_TIME {
            seen.crawls = (moved - seen.moved) < BYTES_PER_SECOND * seen.waited.as_secs();
            if !seen.crawls {
                (seen.waited, seen.moved) = (Duration::ZERO, moved);
            }
        }
    }
}

impl Place {
    /// Cancelled when the connection has to give way: unless a request has come meanwhile, or it is
    /// cut. The one token that a connection looks at all the time.
    pub(crate) fn needed(&self) -> &CancellationToken {
        &self.needed
    }

    /// Cancelled when it has to give way whatever it does.
    pub(crate) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// Whether a request is under way.
    pub(crate) fn is_busy(&self) -> bool {
        !is_idle(&self.activity, &self.progress)
    }

    /// What the connection is doing, to be told of its requests.
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// How its requests move, to be told of them.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }
}

/// Whether no request is under way. The end of an answer may still be on its way when the request
/// counts as over.
fn is_idle(activity: &Activity, progress: &Progress) -> bool {
    activity.is_idle() && !progress.is_untaken()
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).connections.remove(&self.number);
    }
}

fn is_large(count: usize, all: usize) -> bool {
    count > (all / LARGE_PART).max(SMALL_COUNT)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
