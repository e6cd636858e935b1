//! Requests that wait for a microVM: they share one resume, and go on one after the other in order of arrival.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_api::MicrovmId;
use hearth_lifecycle::Unreachable;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::backend::Backend;
use crate::refusal::Refusal;
use crate::serve::Stop;

/// Requests that may wait for one microVM.
pub(crate) const WAITING_MAX: usize = 1024;

type Outcome<B> = Result<<B as Backend>::App, Unreachable>;

/// The waiting requests of all microVMs.
pub(crate) struct Waiting<B: Backend> {
    backend: Arc<B>,
    /// Where they are woken: not where connections are served.
    server: Handle,
    queues: Arc<Queues<B>>,
}

type Queues<B> = Mutex<HashMap<MicrovmId, VecDeque<oneshot::Sender<Turn<B>>>>>;

/// What a waiting request is given when it may go on; the next one is given it when this is dropped.
pub(crate) struct Turn<B: Backend> {
    outcome: Outcome<B>,
    rest: VecDeque<oneshot::Sender<Turn<B>>>,
}

impl<B: Backend> fmt::Debug for Waiting<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}

impl<B: Backend> Waiting<B> {
    pub(crate) fn new(backend: Arc<B>, server: Handle) -> Self {
        Self { backend, server, queues: Arc::default() }
    }

    /// Waits until the microVM runs; the first that waits wakes it. Whoever gives up while waiting does so for itself
    /// alone.
    pub(crate) async fn wait(&self, id: &MicrovmId, stop: &Stop) -> Result<(B::App, Turn<B>), Refusal> {
        let (turn_tx, turn_rx) = oneshot::channel();
        if self.enqueue(id, turn_tx)? {
            let (backend, queues) = (Arc::clone(&self.backend), Arc::clone(&self.queues));
            let (id, now) = (id.clone(), stop.now.clone());
            let waking = async move {
                let woken = now.run_until_cancelled(backend.ensure_running(&id)).await;
                let rest = lock(&queues).remove(&id).unwrap_or_default();
                drop(Turn::<B> { outcome: woken.unwrap_or(Err(Unreachable::Failed)), rest });
            };
            stop.tasks.spawn_on(waking, &self.server);
        }
        let turn = turn_rx.await.map_err(|_| Refusal::MicrovmUnreachable)?;
        match turn.outcome.clone() {
            Ok(running) => Ok((running, turn)),
            Err(reason) => {
                tracing::debug!(microvm = %id, ?reason, "the microVM takes no request");
                Err(Refusal::MicrovmUnreachable)
            }
        }
    }

    /// Whether it is the first.
    fn enqueue(&self, id: &MicrovmId, turn: oneshot::Sender<Turn<B>>) -> Result<bool, Refusal> {
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

impl<B: Backend> Drop for Turn<B> {
    fn drop(&mut self) {
        let mut rest = std::mem::take(&mut self.rest);
        while let Some(next) = rest.pop_front() {
            let turn = Turn { outcome: self.outcome.clone(), rest };
            match next.send(turn) {
                Ok(()) => return,
                // It has given up.
                Err(mut turn) => rest = std::mem::take(&mut turn.rest),
            }
        }
    }
}

fn lock<B: Backend>(
    queues: &Queues<B>,
) -> MutexGuard<'_, HashMap<MicrovmId, VecDeque<oneshot::Sender<Turn<B>>>>> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}
