//! Requests that wait for a microVM: they share one resume, and go on one after the other
//! in order of arrival.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_api::MicrovmId;
use hearth_node::{Node, Unreachable};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::refusal::Refusal;
use crate::stop::Stop;

/// Requests that may wait for one microVM.
pub(crate) const WAITING_MAX: usize = 1024;

/// Waiting requests that go on at the same time, as long as they are answered quickly. Those
/// behind them find connections to the app that are free again: a guest that has just been resumed
/// is slow at taking new ones.
const AT_ONCE: usize = 4;
/// How long the next one waits for an answer to those before it.
const PATIENCE: Duration = Duration::from_millis(5);

type Outcome<L> = Result<L, Unreachable>;

/// The waiting requests of all microVMs.
pub(crate) struct Waiting<N: Node> {
    node: Arc<N>,
    /// Where they are woken: not where connections are served.
    server: Handle,
    queues: Arc<Queues<N::Life>>,
}

/// Those that wait for one microVM, in order of arrival.
type WaitQueue<L> = VecDeque<oneshot::Sender<Turn<L>>>;

type Queues<L> = Mutex<HashMap<MicrovmId, WaitQueue<L>>>;

/// What a waiting request is given when it may go on.
struct Turn<L> {
    outcome: Outcome<L>,
    on_its_way: oneshot::Sender<()>,
    place: Option<Permit>,
}

/// A place among those that go on at the same time, to be kept until the answer is over.
pub(crate) type Permit = OwnedSemaphorePermit;

/// A request that may go on.
pub(crate) struct Woken<L> {
    /// The microVM.
    pub(crate) running: L,
    /// To be dropped when the request is on its way; then the next one goes on.
    pub(crate) on_its_way: oneshot::Sender<()>,
    /// There is none for a request that has waited too long for it.
    pub(crate) place: Option<Permit>,
}

impl<N: Node> fmt::Debug for Waiting<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}

impl<N: Node> Waiting<N> {
    pub(crate) fn new(node: Arc<N>, server: Handle) -> Self {
        Self { node, server, queues: Arc::default() }
    }

    /// Waits until the microVM runs; the first that waits wakes it. A request that gives
    /// up while it waits stops nobody else's.
    pub(crate) async fn wait(&self, id: &MicrovmId, stop: &Stop) -> Result<Woken<N::Life>, Refusal> {
        let (turn_tx, turn_rx) = oneshot::channel();
        if self.enqueue(id, turn_tx)? {
            let (node, queues) = (Arc::clone(&self.node), Arc::clone(&self.queues));
            let (id, now) = (id.clone(), stop.now.clone());
            let waking = async move {
                let woken = now.run_until_cancelled(node.ensure_running(&id)).await;
                let queue = lock(&queues).remove(&id).unwrap_or_default();
                let outcome = woken.unwrap_or(Err(Unreachable::Failed));
                now.run_until_cancelled(release(queue, outcome)).await;
            };
            stop.tasks.spawn_on(waking, &self.server);
        }
        let turn = turn_rx.await.map_err(|_| Refusal::MicrovmUnreachable)?;
        match turn.outcome {
            Ok(running) => Ok(Woken { running, on_its_way: turn.on_its_way, place: turn.place }),
            Err(reason) => {
                tracing::debug!(microvm = %id, ?reason, "the microVM takes no request");
                Err(Refusal::MicrovmUnreachable)
            }
        }
    }

    /// Whether it is the first.
    fn enqueue(&self, id: &MicrovmId, turn: oneshot::Sender<Turn<N::Life>>) -> Result<bool, Refusal> {
        let mut queues = lock(&self.queues);
        let Some(queue) = queues.get_mut(id) else {
            queues.insert(id.clone(), VecDeque::from([turn]));
            return Ok(true);
        };
        if queue.len() >= WAITING_MAX {
            queue.retain(|waiting| !waiting.is_closed());
            if queue.len() >= WAITING_MAX {
                return Err(Refusal::TooManyRequests);
            }
        }
        queue.push_back(turn);
        Ok(false)
    }
}

/// Lets the requests go on, one after the other, each when the one before is on its way and one
/// of the places is free.
async fn release<L: Clone>(queue: WaitQueue<L>, outcome: Outcome<L>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    for waiting in queue.into_iter().filter(|waiting| !waiting.is_closed()) {
        let place = match &outcome {
            Ok(_) => tokio::time::timeout(PATIENCE, Arc::clone(&places).acquire_owned()).await.ok(),
            Err(_) => None,
        };
        let (on_its_way, gone) = oneshot::channel();
        let turn = Turn { outcome: outcome.clone(), on_its_way, place: place.and_then(Result::ok) };
        // A request drops it when it gives up, and when it is on its way.
        if waiting.send(turn).is_ok() {
            let _ = gone.await;
        }
    }
}

fn lock<L>(queues: &Queues<L>) -> MutexGuard<'_, HashMap<MicrovmId, WaitQueue<L>>> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::Receiver;
    use tokio::time::Instant;

    use super::*;

    /// Requests that wait, and the task that lets them go.
    fn queue(size: usize, outcome: Outcome<&'static str>) -> Vec<Receiver<Turn<&'static str>>> {
        let (queue, waiting): (WaitQueue<_>, Vec<_>) = (0..size).map(|_| oneshot::channel()).unzip();
        tokio::spawn(release(queue, outcome));
        waiting
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_go_on_at_once_and_the_next_when_one_of_them_is_answered() {
        let began = Instant::now();
        let mut waiting = queue(AT_ONCE + 2, Ok("it")).into_iter();
        let mut places = Vec::new();
        for _ in 0..AT_ONCE {
            let turn = waiting.next().unwrap().await.unwrap();
            places.push(turn.place.unwrap());
        }
        let mut next = waiting.next().unwrap();
        assert!(futures::poll!(&mut next).is_pending());
        places.pop();
        let turn = next.await.unwrap();
        assert!(turn.outcome == Ok("it") && turn.place.is_some());
        assert_eq!(began.elapsed(), Duration::ZERO);
        // While it keeps its place and is not on its way, nobody goes on; and then not for long.
        let mut last = waiting.next().unwrap();
        tokio::time::sleep(2 * PATIENCE).await;
        assert!(futures::poll!(&mut last).is_pending());
        drop(turn.on_its_way);
        let left = Instant::now();
        assert!(last.await.unwrap().place.is_none());
        assert_eq!(left.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_left_is_passed_over_and_a_failure_is_told_at_once() {
        let began = Instant::now();
        let mut waiting = queue(30, Err(Unreachable::Failed));
        waiting.drain(..10);
        for turn in waiting {
            assert_eq!(turn.await.unwrap().outcome, Err(Unreachable::Failed));
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
