//! The threads that serve client connections.
//!
//! Each has a runtime for itself, and a connection stays on one thread with all that is done for
//! it: no work is taken from other threads and nothing is passed between them, which is what a
//! shared scheduler costs (decision 33). What is not about one client's connection runs on the
//! server's own runtime: a worker never waits for a disk, nor for a microVM's life.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::{io, thread};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// Where client connections are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// On the runtime that starts the data plane, for tests that stop its clock.
    Caller,
    /// On this many threads of the data plane.
    Threads(NonZeroUsize),
}

/// One place where connections are served.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) runtime: Handle,
    /// Cloned by every connection that is served here.
    connections: Arc<()>,
}

/// A connection that counts for its worker while this lives.
#[derive(Debug)]
pub(crate) struct OnWorker {
    _connections: Arc<()>,
}

/// The threads, for when they are to end. Dropping it leaves them alone.
#[derive(Debug, Default)]
pub(crate) struct WorkerThreads {
    end: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// A thread for each CPU that this process may use.
    pub fn one_per_cpu() -> Self {
        Self::Threads(thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    /// Starts them; `caller` is the runtime that [`Workers::Caller`] means.
    pub(crate) fn start(self, caller: &Handle) -> io::Result<(Vec<Worker>, WorkerThreads)> {
        let mut started = WorkerThreads::default();
        let Self::Threads(count) = self else { return Ok((vec![Worker::new(caller.clone())], started)) };
        let mut workers = Vec::new();
        for number in 0..count.get() {
            match started.add(number) {
                Ok(worker) => workers.push(worker),
                Err(error) => {
                    started.end.cancel();
                    return Err(error);
                }
            }
        }
        Ok((workers, started))
    }
}

impl Worker {
    fn new(runtime: Handle) -> Self {
        Self { runtime, connections: Arc::default() }
    }

    /// Counts a connection.
    pub(crate) fn connection(&self) -> OnWorker {
        OnWorker { _connections: Arc::clone(&self.connections) }
    }

    /// How many it has.
    pub(crate) fn connections(&self) -> usize {
        Arc::strong_count(&self.connections)
    }
}

impl WorkerThreads {
    fn add(&mut self, number: usize) -> io::Result<Worker> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let worker = Worker::new(runtime.handle().clone());
        let end = self.end.clone();
        let serve = move || runtime.block_on(end.cancelled());
        self.threads.push(thread::Builder::new().name(format!("endpoint-{number}")).spawn(serve)?);
        Ok(worker)
    }

    /// Ends the threads, and with them whatever still runs there; returns when they are gone.
    pub(crate) async fn end(self) {
        self.end.cancel();
        for worker in self.threads {
            // A task's panic is caught by its runtime, so a thread has none.
            let joined = tokio::task::spawn_blocking(move || worker.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("a thread of the endpoints did not end as it should");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn threads_end_with_all_that_runs_on_them() {
        let (workers, threads) = Workers::Threads(NonZeroUsize::MIN).start(&Handle::current()).unwrap();
        let running = Arc::new(());
        let held = Arc::clone(&running);
        let (started_tx, started_rx) = tokio::sync::oneshot::channel();
        workers[0].runtime.spawn(async move {
            started_tx.send(thread::current().name().map(str::to_owned)).unwrap();
            std::future::pending::<()>().await;
            drop(held);
        });
        assert_eq!(started_rx.await.unwrap().as_deref(), Some("endpoint-0"));
        assert_eq!(Arc::strong_count(&running), 2);
        threads.end().await;
        assert_eq!(Arc::strong_count(&running), 1);
    }
}
