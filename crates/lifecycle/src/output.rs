//! Follows the app's output while a guest runs and writes it to the microVM's log
//! stream, line by line.
//!
//! The position counts what was handed to the writer, which writes in the background, and the
//! position with the lines: a later server goes on exactly there. When the writer is behind,
//! nothing is read, and the agent's ring in the guest keeps the newest output; what falls out of it
//! is mentioned in the log.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hearth_api::MicrovmId;
use hearth_guest_protocol::client::{ClientError, Replies};
use hearth_guest_protocol::{Reply, Request};
use hearth_log_writer::{LineBuffer, LogWriter};
use hearth_rate::Bucket;
use hearth_records::{LogDestination, Logs};
use hearth_vmm::Vm;
use tokio::sync::watch;

/// How long a suspend waits for the last lines to be stored.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// An app that prints nothing for so long has said what it had to say.
const QUIET: Duration = Duration::from_millis(500);

/// Lines of one microVM that are stored within a second in the long run. Storing one costs some 10
/// µs of CPU time, and output is one of many things that a host has to do. What does not fit waits
/// in the guest, and the newest of it is kept.
const LINES_PER_SECOND: u64 = 5_000;

/// Lines that may come at once.
const LINES_AT_ONCE: u64 = 50_000;

/// The pace at which lines are stored.
fn pace() -> Bucket {
    Bucket::with_burst(LINES_PER_SECOND, LINES_AT_ONCE)
}

/// Where a microVM's output goes, and how far it has been written.
#[derive(Debug)]
pub(crate) struct OutputLog {
    logs: Arc<dyn Logs>,
    microvm: MicrovmId,
    /// `None` when logging is disabled.
    destination: Option<LogDestination>,
    writer: OnceLock<LogWriter>,
    position: AtomicU64,
    /// Whether the app's streams have ended and everything was read.
    ended_tx: watch::Sender<bool>,
}

impl OutputLog {
    /// Output up to `position` is in the log already.
    pub(crate) fn new(
        logs: Arc<dyn Logs>,
        microvm: MicrovmId,
        destination: Option<LogDestination>,
        position: u64,
    ) -> Self {
        Self {
            logs,
            microvm,
            destination,
            writer: OnceLock::new(),
            position: AtomicU64::new(position),
            ended_tx: watch::Sender::new(false),
        }
    }

    /// Waits until what was read is stored, and with it the position for the next life.
    pub(crate) async fn flush(&self) {
        if let Some(writer) = self.writer.get()
            && tokio::time::timeout(FLUSH_PATIENCE, writer.flush()).await.is_err()
        {
            tracing::warn!(destination = ?self.destination, "the last output is not stored yet");
        }
    }

    /// Copies output until the guest's life ends: the caller cancels it then.
    pub(crate) async fn follow(self: Arc<Self>, vm: Arc<dyn Vm>) {
        let Some(destination) = self.destination.clone() else {
            self.ended_tx.send_replace(true);
            return;
        };
        let microvm = Some(self.microvm.clone());
        let writer =
            self.writer.get_or_init(|| LogWriter::start_for(self.logs.clone(), destination, microvm));
        loop {
            match self.copy(&vm, writer).await {
                Ok(()) => _ = self.ended_tx.send_replace(true),
                Err(error) => tracing::debug!(%error, "the output connection broke; trying again"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits until the last words of an app that has ended are in the writer's hands, but not
    /// longer than `patience`.
    pub(crate) async fn ended(&self, patience: Duration) {
        let mut ended_rx = self.ended_tx.subscribe();
        // Whoever waits in vain goes on without the last lines.
        let _ = tokio::time::timeout(patience, ended_rx.wait_for(|ended| *ended)).await;
    }

    /// Copies what the app has printed until nothing more comes for a moment, but not for longer
    /// than `patience`. Nobody may follow the output meanwhile.
    pub(crate) async fn drain(&self, vm: &Arc<dyn Vm>, patience: Duration) {
        let Some(destination) = self.destination.clone() else { return };
        let writer = self.writer.get_or_init(|| LogWriter::start(self.logs.clone(), destination));
        let quiet = async {
            loop {
                let before = self.position.load(Ordering::Relaxed);
                tokio::time::sleep(QUIET).await;
                if self.position.load(Ordering::Relaxed) == before {
                    return;
                }
            }
        };
        let drained = async {
            tokio::select! {
                _ = self.copy(vm, writer) => {}
                () = quiet => {}
            }
        };
        // Whoever prints without end is cut off.
        let _ = tokio::time::timeout(patience, drained).await;
    }

    async fn copy(&self, vm: &Arc<dyn Vm>, writer: &LogWriter) -> Result<(), ClientError> {
        let mut expected = self.position.load(Ordering::Relaxed);
        let connection = vm.connect_guest().await.map_err(ClientError::Connection)?;
        let mut replies = Replies::request(connection, &Request::Output { from: expected }).await?;
        let (mut buffer, pace) = (LineBuffer::default(), pace());
        while let Some(reply) = replies.next().await? {
            let Reply::Output { position, data, .. } = reply else { continue };
            let Some(room) = writer.room().await else { return Ok(()) };
            let mut lines = Vec::new();
            if position > expected {
                lines.extend(buffer.take());
                lines.push(missing(position - expected));
            }
            lines.extend(buffer.push(&data));
            expected = position + data.len() as u64;
            let complete = expected - buffer.len() as u64;
            let count = lines.len();
            room.send_until(lines, complete);
            self.position.store(complete, Ordering::Relaxed);
            // Until more may come.
            tokio::time::sleep(pace.debit(count as u64)).await;
        }
        // The end of both streams: what has no end of line now gets none any more.
        if !buffer.is_empty()
            && let Some(room) = writer.room().await
        {
            room.send_until(buffer.take().into_iter().collect(), expected);
            self.position.store(expected, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn missing(bytes: u64) -> String {
    format!("[hearth] {bytes} bytes of output are missing here: they came faster than they could be stored.")
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_prints_without_end_is_slowed_down_and_a_long_traceback_is_not() {
        let (began, pace) = (Instant::now(), pace());
        let stored = async |lines: u64| tokio::time::sleep(pace.debit(lines)).await;
        for _ in 0..10 {
            stored(LINES_AT_ONCE / 10).await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        for _ in 0..100 {
            stored(LINES_PER_SECOND / 10).await;
        }
        assert!((9..=10).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        // Who has been silent for long may say much again, but not more than before.
        tokio::time::advance(Duration::from_secs(1000)).await;
        let again = Instant::now();
        stored(LINES_AT_ONCE).await;
        assert_eq!(again.elapsed(), Duration::ZERO);
        stored(LINES_PER_SECOND).await;
        assert_eq!(again.elapsed(), Duration::from_secs(1));
    }
}
