//! The places for connections to the API, and which of them give way.
//!
//! A client takes a place before anything is known of it. When one is needed and all are taken, the first to give way is a
//! connection without a request under way, the one that has been without for longest, whatever it has asked before: clients
//! of AWS open another. When there is none, one of those gives way whose request waits for its client:
//!
//! - One that crawls: less than [`BYTES_PER_SECOND`] since it was first looked at. Of those, the oldest of whoever has most.
//! - Else, of whoever has more than an eighth of all places, the oldest. A cap instead would leave places empty that others do
//!   not want, and two accounts at their caps would still have everything.
//!
//! What the server itself is at work for is never cut, and nothing is while there are places: an upload may take hours then.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_data_plane::Activity;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::api_progress::{Holder, Progress};

/// For how long a connection without a request keeps its place in any case.
const GRACE: Duration = Duration::from_secs(2);
/// For how long one with a request does, from when it was first looked at; and the time over which its pace is taken.
const BUSY_GRACE: Duration = Duration::from_secs(10);
/// Pace below which a request crawls, the same that short bodies must have.
const BYTES_PER_SECOND: u64 = 32 << 10;
/// The part of all places beyond which whoever has most of them gives way with requests that do not crawl, too.
const LARGE_PART: usize = 8;
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
    /// When it was last looked at, and the end of its last request then.
    looked: Instant,
    last_end: u64,
    first: Instant,
    /// Start of the time over which the pace is taken, and the bytes that had been moved then.
    since: Instant,
    moved: u64,
    crawls: bool,
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
        if let Some(idle) = self.longest_idle() {
            idle.needed.cancel();
        } else if let Some(busy) = self.busy_of_whoever_has_most(all) {
            busy.cut.cancel();
        }
    }

    fn longest_idle(&self) -> Option<&Connection> {
        let idle = self.connections.iter().filter(|(_, connection)| {
            is_idle(&connection.activity, &connection.progress)
                && connection.activity.idle_for() >= GRACE
                && !connection.needed.is_cancelled()
        });
        let longest =
            idle.max_by_key(|(number, connection)| (connection.activity.idle_for(), Reverse(**number)));
        longest.map(|(_, connection)| connection)
    }

    fn busy_of_whoever_has_most(&mut self, all: usize) -> Option<&Connection> {
        // One that was cut is gone in a moment.
        if self.connections.values().any(|connection| connection.cut.is_cancelled()) {
            return None;
        }
        let mut counts: HashMap<Holder, usize> = HashMap::new();
        let mut candidates = Vec::new();
        for (number, connection) in &mut self.connections {
            if !connection.look() {
                continue;
            }
            let holder = connection.progress.holder();
            *counts.entry(holder).or_default() += 1;
            if let Some(seen) = connection.seen.as_ref().filter(|seen| seen.first.elapsed() >= BUSY_GRACE)
                && connection.progress.waits_for_client()
            {
                candidates.push((*number, holder, seen.crawls, seen.first));
            }
        }
        let count = |holder| counts.get(holder).copied().unwrap_or_default();
        let may_go =
            candidates.iter().filter(|(_, holder, crawls, _)| *crawls || count(holder) > all / LARGE_PART);
        let first_to_go = may_go.max_by_key(|(number, holder, crawls, first)| {
            (*crawls, count(holder), Reverse(*first), Reverse(*number))
        });
        self.connections.get(&first_to_go?.0)
    }
}

impl Connection {
    /// Looks at what is done now; whether a request is under way. Requests that follow one another are seen as one, or a client
    /// would only have to begin another in time.
    fn look(&mut self) -> bool {
        let (is_busy, now) = (!is_idle(&self.activity, &self.progress), Instant::now());
        let (last_end, moved) = (self.activity.last_end(), self.progress.moved());
        let is_other = |seen: &Seen| seen.last_end != last_end && now - seen.looked > BUSY_GRACE;
        if is_busy && self.seen.as_ref().is_none_or(is_other) {
            self.seen = Some(Seen { last_end, looked: now, first: now, since: now, moved, crawls: false });
        }
        let Some(seen) = &mut self.seen else { return is_busy };
        (seen.last_end, seen.looked) = (last_end, now);
        let elapsed = now - seen.since;
        if elapsed >= BUSY_GRACE {
            seen.crawls = (moved - seen.moved) < BYTES_PER_SECOND * elapsed.as_secs();
            if !seen.crawls {
                (seen.since, seen.moved) = (now, moved);
            }
        }
        is_busy
    }
}

impl Place {
    /// Cancelled when the connection has to give way, unless a request has come meanwhile.
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

/// Whether no request is under way. The end of an answer may still be on its way when the request counts as over.
fn is_idle(activity: &Activity, progress: &Progress) -> bool {
    activity.is_idle() && !progress.is_untaken()
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).connections.remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// Nearly [`BUSY_GRACE`].
    const NEARLY: Duration = Duration::from_millis(9_900);

    async fn next(places: &Places) -> Option<Place> {
        timeout(PAUSE / 2, places.take()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_without_a_request_for_longest_gives_way() {
        let places = Places::new(3);
        let (busy, first, second) = (places.take().await, places.take().await, places.take().await);
        let work = busy.activity().request();
        advance(Duration::from_millis(1)).await;
        drop(first.activity().request());
        assert!(next(&places).await.is_none(), "all are within their grace");
        advance(GRACE).await;
        assert!(next(&places).await.is_none(), "it is told, and has not gone yet");
        assert!(second.needed().is_cancelled() && !first.needed().is_cancelled());
        drop(second);
        let third = next(&places).await.unwrap();
        assert!(next(&places).await.is_none());
        assert!(
            first.needed().is_cancelled() && !busy.needed().is_cancelled() && !third.needed().is_cancelled()
        );
        drop((work, first, busy, third));
        assert!(lock(&places.taken).connections.is_empty(), "who has gone is forgotten");
        assert_eq!(places.free.available_permits(), 3);
    }

    /// Time goes on while somebody wants a place.
    async fn someone_waits(places: &Places, time: Duration) -> Option<Place> {
        timeout(time, places.take()).await.ok()
    }

    /// A place with a request of this source, whose body is waited for.
    async fn uploading(places: &Places, source: u8) -> (Place, hearth_data_plane::Busy) {
        let place = places.take().await;
        let busy = place.activity().request();
        place.progress().request([192, 0, 2, source].into());
        place.progress().wants_body(true);
        (place, busy)
    }

    fn cut(connections: &[(Place, hearth_data_plane::Busy)]) -> Vec<usize> {
        let is_cut = |number: &usize| connections[*number].0.cut().is_cancelled();
        (0..connections.len()).filter(is_cut).collect()
    }

    /// The kind: places that are held by requests which never end.
    #[tokio::test(start_paused = true)]
    async fn requests_that_crawl_give_way_the_oldest_of_whoever_has_most_first() {
        let places = Places::new(6);
        let mut connections = Vec::new();
        for source in [1, 2, 2, 2, 3, 4] {
            connections.push(uploading(&places, source).await);
            advance(Duration::from_millis(1)).await;
        }
        // The server is at work for one of them, and another is as fast as is asked for.
        connections[1].0.progress().wants_body(false);
        assert!(someone_waits(&places, NEARLY).await.is_none());
        assert_eq!(cut(&connections), [0; 0], "all are within their grace");
        connections[2].0.progress().count(BYTES_PER_SECOND as usize * 15);
        assert!(someone_waits(&places, PAUSE * 4).await.is_none(), "who was told has not gone yet");
        assert_eq!(cut(&connections), [3]);
        drop(connections.remove(3));
        assert!(next(&places).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_has_its_grace_when_it_is_not_the_one_that_was_seen() {
        let places = Places::new(2);
        let ((first, work), second) = (uploading(&places, 1).await, uploading(&places, 2).await);
        assert!(someone_waits(&places, NEARLY).await.is_none());
        drop(work);
        advance(Duration::from_hours(1)).await;
        let _next = first.activity().request();
        assert!(someone_waits(&places, PAUSE * 4).await.is_none());
        assert!(second.0.cut().is_cancelled() && !first.cut().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_after_the_other_is_no_new_grace() {
        let places = Places::new(1);
        let (place, mut work) = uploading(&places, 1).await;
        for _ in 0..10 {
            assert!(someone_waits(&places, Duration::from_secs(1)).await.is_none());
            drop(work);
            assert!(someone_waits(&places, PAUSE * 2).await.is_none());
            work = place.activity().request();
        }
        assert!(place.cut().is_cancelled());
    }

    /// The kind: the last of anything is nobody's, however fast it is used.
    #[tokio::test(start_paused = true)]
    async fn whoever_has_a_large_part_gives_way_though_nothing_crawls_and_accounts_are_one_from_everywhere() {
        let places = Places::new(16);
        let account = hearth_api::AccountId::from_stored("000000000000");
        let mut connections = Vec::new();
        for source in 0..16 {
            connections.push(uploading(&places, source).await);
            advance(Duration::from_millis(1)).await;
            if source >= 13 {
                connections[usize::from(source)].0.progress().user().set(&account);
            }
        }
        let move_all = |connections: &[(Place, hearth_data_plane::Busy)]| {
            for (place, _) in connections {
                place.progress().count(1 << 30);
            }
        };
        for _ in 0..3 {
            move_all(&connections);
            assert!(someone_waits(&places, BUSY_GRACE / 2).await.is_none());
        }
        assert_eq!(cut(&connections), [13]);
        drop(connections.remove(13));
        let taken = next(&places).await;
        assert!(taken.is_some());
        for _ in 0..3 {
            move_all(&connections);
            assert!(someone_waits(&places, BUSY_GRACE / 2).await.is_none());
        }
        assert_eq!(cut(&connections), [0; 0], "it has no more than its part");
    }
}
