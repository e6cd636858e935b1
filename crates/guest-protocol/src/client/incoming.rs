//! Bytes that a guest has sent and nobody has looked at, in a buffer that stays small.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes that one read takes at most beyond what was asked for.
const READ_BYTES: usize = 16 << 10;

/// Received bytes. The space that a long frame needs is taken as it arrives, not when it
/// is announced, and every byte is moved a fixed number of times at most, however the
/// sender cuts its frames.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
    /// How many of them were taken.
    taken: usize,
}

impl Incoming {
    /// What waits.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    /// Drops the first `length` bytes of what waits.
    pub(super) fn take(&mut self, length: usize) {
        self.taken = (self.taken + length).min(self.bytes.len());
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
        }
    }

    /// Reads once, towards `wanted` bytes in total; 0 at the end of the stream. Cancel-safe.
    pub(super) async fn read<S>(&mut self, stream: &mut S, wanted: usize) -> io::Result<usize>
    where
        S: AsyncRead + Unpin,
    {
        if self.taken > 0 {
            // Between two such moves the frame was taken whose bytes were moved by the first.
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        let waiting = self.bytes.len();
        // At most doubles: an announced length alone costs nothing.
        let room = wanted.saturating_sub(waiting).clamp(READ_BYTES, waiting.max(READ_BYTES));
        self.bytes.reserve(room);
        let read = stream.take(room as u64).read_buf(&mut self.bytes).await?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_length_that_is_only_announced_takes_no_memory() {
        let mut incoming = Incoming::default();
        for _ in 0..3 {
            incoming.read(&mut &b"abc"[..], 4 << 20).await.unwrap();
        }
        assert_eq!(incoming.waiting(), b"abcabcabc");
        assert!(incoming.bytes.capacity() <= 2 * READ_BYTES, "{}", incoming.bytes.capacity());
        incoming.take(4);
        assert_eq!(incoming.waiting(), b"bcabc");
        incoming.take(5);
        assert!(incoming.is_empty());
    }

    #[tokio::test]
    async fn a_flood_of_any_size_is_read_in_small_steps() {
        let mut incoming = Incoming::default();
        let flood = vec![0; 1 << 20];
        let mut stream = flood.as_slice();
        while incoming.read(&mut stream, 4).await.unwrap() > 0 {
            assert!(incoming.waiting().len() <= READ_BYTES + 7);
            incoming.take(incoming.waiting().len() - 7);
            assert!(incoming.bytes.capacity() <= 4 * READ_BYTES, "{}", incoming.bytes.capacity());
        }
    }
}
