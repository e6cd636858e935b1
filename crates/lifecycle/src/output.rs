//! Follows the app's output while a guest runs and writes it to the microVM's log stream, line by line.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hearth_api::Timestamp;
use hearth_guest_protocol::client::{ClientError, Replies};
use hearth_guest_protocol::{Reply, Request};
use hearth_store::Store;
use hearth_vmm::Vm;

/// Where a microVM's output goes, and how far it has been written.
#[derive(Debug)]
pub(crate) struct OutputLog {
    store: Store,
    destination: Option<(String, String)>,
    position: AtomicU64,
    position_file: PathBuf,
}

/// Longest piece of one log line, in bytes; longer lines are cut into several (CloudWatch's limit is 256 KiB).
const LINE_LIMIT_BYTES: usize = 64 << 10;

impl OutputLog {
    /// `destination` is group and stream, `None` when logging is disabled. The position is that of an earlier life
    /// if there was one, else `first`.
    pub(crate) fn new(
        store: Store,
        destination: Option<(String, String)>,
        position_file: PathBuf,
        first: u64,
    ) -> Self {
        let stored = std::fs::read_to_string(&position_file).ok().and_then(|text| text.trim().parse().ok());
        Self { store, destination, position: AtomicU64::new(stored.unwrap_or(first)), position_file }
    }

    /// Keeps the position for the next life, beside the snapshot.
    pub(crate) fn save_position(&self) -> std::io::Result<()> {
        std::fs::write(&self.position_file, self.position.load(Ordering::Relaxed).to_string())
    }

    /// Copies output until the connection ends; the caller cancels it when the guest's life does.
    pub(crate) async fn follow(self: Arc<Self>, vm: Arc<dyn Vm>) {
        let Some((group, stream)) = &self.destination else { return };
        loop {
            if let Err(error) = self.copy(&vm, group, stream).await {
                tracing::debug!(%error, "the output connection broke; trying again");
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn copy(&self, vm: &Arc<dyn Vm>, group: &str, stream: &str) -> Result<(), ClientError> {
        let from = self.position.load(Ordering::Relaxed);
        let connection = vm.connect_guest().await.map_err(ClientError::Connection)?;
        let mut replies = Replies::request(connection, &Request::Output { from }).await?;
        let mut partial = String::new();
        while let Some(reply) = replies.next().await? {
            let Reply::Output { position, data, .. } = reply else { continue };
            partial.push_str(&data);
            let lines = take_lines(&mut partial);
            if lines.is_empty() {
                continue;
            }
            let now = Timestamp(jiff_now());
            let stamped: Vec<_> = lines.into_iter().map(|line| (now, line)).collect();
            if let Err(error) = self.store.append_log(group, stream, &stamped).await {
                tracing::error!(%error, group, stream, "output lines could not be stored");
            }
            let seen = position + data.len() as u64 - partial.len() as u64;
            self.position.store(seen, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn jiff_now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Removes the complete lines from `text`.
fn take_lines(text: &mut String) -> Vec<String> {
    let complete = match text.rfind('\n') {
        Some(end) => end + 1,
        None if text.len() >= LINE_LIMIT_BYTES => text.len(),
        None => return Vec::new(),
    };
    let rest = text.split_off(complete);
    let lines = std::mem::replace(text, rest);
    lines.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_lines_leave() {
        let mut text = "one\r\ntwo\nthr".to_owned();
        assert_eq!(take_lines(&mut text), ["one", "two"]);
        assert_eq!(text, "thr");
        assert!(take_lines(&mut text).is_empty());
    }

    #[test]
    fn a_line_without_an_end_is_cut_at_the_limit() {
        let mut text = "x".repeat(LINE_LIMIT_BYTES);
        assert_eq!(take_lines(&mut text).len(), 1);
        assert!(text.is_empty());
    }
}
