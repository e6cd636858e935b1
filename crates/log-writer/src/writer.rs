//! The task that writes, and the queue before it.

use std::sync::Arc;
use std::time::Duration;

use hearth_api::{MicrovmId, Timestamp};
use hearth_records::{LogDestination, Logs};
use tokio::sync::{mpsc, oneshot};

/// Calls of [`Room::send`] that may wait.
const QUEUE: usize = 64;
/// Bytes that one transaction writes, as long as a single call has no more.
const BATCH_BYTES: usize = 512 << 10;
/// Pauses between attempts to write lines that the store did not take; then they are given up.
const RETRIES: [Duration; 7] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];

#[derive(Debug)]
enum Entry {
    Lines { at: Timestamp, lines: Vec<String>, position: Option<u64> },
    Flush(oneshot::Sender<()>),
}

/// The writing end of a log stream. Lines that were sent are written also when this is dropped.
#[derive(Debug)]
pub struct LogWriter {
    sender: mpsc::Sender<Entry>,
}

/// A place in the queue: what is sent into it cannot be lost half-way.
#[derive(Debug)]
pub struct Room<'a>(mpsc::Permit<'a, Entry>);

impl Room<'_> {
    /// Queues lines, which happened now.
    pub fn send(self, lines: Vec<String>) {
        self.queue(lines, None);
    }

    /// The same for a microVM's output up to this position, which is recorded
    /// together with the lines.
    pub fn send_until(self, lines: Vec<String>, position: u64) {
        self.queue(lines, Some(position));
    }

    fn queue(self, lines: Vec<String>, position: Option<u64>) {
        if !lines.is_empty() {
            self.0.send(Entry::Lines { at: Timestamp::now(), lines, position });
        }
    }
}

impl LogWriter {
    /// Starts the task that writes; group and stream are made with the first lines.
    pub fn start(logs: Arc<dyn Logs>, destination: LogDestination) -> Self {
        Self::start_for(logs, destination, None)
    }

    /// The same for a microVM's output, whose position is recorded with it ([`Room::send_until`]).
    pub fn start_for(logs: Arc<dyn Logs>, destination: LogDestination, microvm: Option<MicrovmId>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(Task { logs, destination, microvm, lost: 0, refused: false }.run(receiver));
        Self { sender }
    }

    /// Waits until something may be sent; cancelling it loses nothing. `None` when the task has
    /// ended, with the runtime.
    pub async fn room(&self) -> Option<Room<'_>> {
        self.sender.reserve().await.ok().map(Room)
    }

    /// Waits until everything sent before is written, or was given up.
    pub async fn flush(&self) {
        let (done_tx, done_rx) = oneshot::channel();
        if self.sender.send(Entry::Flush(done_tx)).await.is_ok() {
            // An error means that the task has ended, with the runtime.
            let _ = done_rx.await;
        }
    }
}

/// What one transaction writes.
#[derive(Default)]
struct Batch {
    lines: Vec<(Timestamp, String)>,
    /// How far the output has been written with them.
    position: Option<u64>,
}

struct Task {
    logs: Arc<dyn Logs>,
    destination: LogDestination,
    microvm: Option<MicrovmId>,
    /// Lines that were given up and not mentioned yet.
    lost: usize,
    /// Whether the last lines were not allowed to be written.
    refused: bool,
}

impl Task {
    async fn run(mut self, mut receiver: mpsc::Receiver<Entry>) {
        let (mut batch, mut bytes) = (Batch::default(), 0);
        while let Some(first) = receiver.recv().await {
            let mut next = Some(first);
            // Whatever has gathered while the last transaction ran goes into one.
            while let Some(entry) = next.take() {
                match entry {
                    Entry::Lines { at, lines, position } => {
                        bytes += lines.iter().map(String::len).sum::<usize>();
                        batch.lines.extend(lines.into_iter().map(|line| (at, line)));
                        batch.position = position.or(batch.position);
                    }
                    Entry::Flush(done_tx) => {
                        self.write(std::mem::take(&mut batch)).await;
                        bytes = 0;
                        // Who asked may have stopped waiting.
                        let _ = done_tx.send(());
                    }
                }
                if bytes < BATCH_BYTES {
                    next = receiver.try_recv().ok();
                }
            }
            self.write(std::mem::take(&mut batch)).await;
            bytes = 0;
        }
    }

    async fn write(&mut self, Batch { mut lines, position }: Batch) {
        let progress = self.microvm.as_ref().zip(position);
        let Some((first, _)) = lines.first() else { return };
        let own = lines.len();
        match self.logs.may_write_log(&self.destination).await {
            Ok(Ok(())) => self.refused = false,
            Ok(Err(reason)) => return self.refuse(*first, &reason).await,
            // The database will say so again, and then it is tried again.
            Err(error) => tracing::warn!(%error, "it could not be told who may write to a log group"),
        }
        if self.lost > 0 {
            let note = format!("[hearth] {} lines are missing here: they could not be stored.", self.lost);
            lines.insert(0, (*first, note));
        }
        let mut pauses = RETRIES.iter();
        loop {
            let LogDestination { account, group, stream, .. } = &self.destination;
            let Err(error) = self.logs.append_output(account, group, stream, &lines, progress).await else {
                self.lost = 0;
                return;
            };
            let Some(pause) = pauses.next() else {
                tracing::error!(%error, group, stream, lines = own, "output is lost: it could not be stored");
                self.lost += own;
                return;
            };
            tracing::warn!(%error, group, stream, "output could not be stored; trying again");
            tokio::time::sleep(*pause).await;
        }
    }

    /// Lines that nobody may write are dropped. The service's own stream says so, once.
    async fn refuse(&mut self, at: Timestamp, reason: &str) {
        if std::mem::replace(&mut self.refused, true) {
            return;
        }
        let LogDestination { account, group, own: (own_group, own_stream), .. } = &self.destination;
        tracing::warn!(%account, group, reason, "output is not written");
        let note = format!("[hearth] Output is not written to the log group {group}: {reason}");
        if let Err(error) = self.logs.append_log(account, own_group, own_stream, &[(at, note)]).await {
            tracing::warn!(%error, group = own_group, "a note about output could not be stored");
        }
    }
}
