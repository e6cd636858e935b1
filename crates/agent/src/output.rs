//! The output of the app or of a build: a ring buffer with positions, and the thread that fills it.
//!
//! The app is never made to wait: its pipes are always drained, and when the ring is full
//! the oldest text goes.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hearth_guest_protocol::codec::write_frame;
use hearth_guest_protocol::{OutputStream, Reply};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::bell::{Bell, Wake};

/// What the ring holds at most, in bytes.
const RING_BYTES: usize = 1 << 20;
/// Neighbouring pieces of one stream are joined up to this length.
const CHUNK_BYTES: usize = 4096;

/// Output that was collected so far.
#[derive(Debug)]
pub(crate) struct Output {
    ring: Mutex<Ring>,
    /// Rings when something was added, and when both streams have ended.
    bell: Bell,
}

#[derive(Debug)]
struct Ring {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    end: u64,
    closed: bool,
}

/// Why [`Output::stream`] returned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// Both streams have ended and everything was sent.
    Closed,
    /// The reader has gone.
    PeerGone,
    /// The deadline has passed.
    TimedOut,
}

/// A piece of one stream. Positions count the bytes of the text, after invalid UTF-8
/// has been replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chunk {
    position: u64,
    stream: OutputStream,
    text: String,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.position + self.text.len() as u64
    }
}

impl Output {
    pub(crate) const fn new() -> Self {
        let ring = Ring { chunks: VecDeque::new(), bytes: 0, end: 0, closed: false };
        Self { ring: Mutex::new(ring), bell: Bell::new() }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, stream: OutputStream, text: &str) {
        if !text.is_empty() {
            self.ring().append(stream, text);
            self.bell.ring();
        }
    }

    /// The first piece at or after position `from`; nothing when there is none yet.
    fn read_from(&self, from: u64) -> Option<Chunk> {
        self.ring().read_from(from)
    }

    /// Whether both streams have ended, so that nothing more will come.
    fn is_closed(&self) -> bool {
        self.ring().closed
    }

    /// Sends everything from position `from` on as frames, as it comes.
    pub(crate) fn stream(
        &self,
        peer: &mut TcpStream,
        mut from: u64,
        deadline: Option<Instant>,
    ) -> io::Result<StreamEnd> {
        let ear = self.bell.listen()?;
        loop {
            let closed = self.is_closed();
            while let Some(chunk) = self.read_from(from) {
                from = chunk.end();
                let Chunk { position, stream, text: data } = chunk;
                write_frame(peer, &Reply::Output { position, stream, data })?;
            }
            if closed {
                return Ok(StreamEnd::Closed);
            }
            let left =
                deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(StreamEnd::TimedOut);
            }
            if ear.wait_for(peer, left)? == Wake::PeerGone {
                return Ok(StreamEnd::PeerGone);
            }
        }
    }

    /// Collects both streams until they end. For a thread of its own.
    pub(crate) fn collect(&self, stdout: OwnedFd, stderr: OwnedFd) {
        let mut open =
            vec![Source::new(stdout, OutputStream::Stdout), Source::new(stderr, OutputStream::Stderr)];
        while !open.is_empty() {
            let mut fds: Vec<_> =
                open.iter().map(|source| PollFd::new(source.fd.as_fd(), PollFlags::POLLIN)).collect();
            if poll(&mut fds, PollTimeout::NONE).is_err() {
                continue;
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
            let mut ready = ready.into_iter();
            open.retain_mut(|source| !ready.next().unwrap_or(false) || source.read_into(self));
        }
        self.ring().closed = true;
        self.bell.ring();
    }
}

impl Ring {
    fn append(&mut self, stream: OutputStream, text: &str) {
        let position = self.end;
        self.end += text.len() as u64;
        self.bytes += text.len();
        match self.chunks.back_mut() {
            Some(last) if last.stream == stream && last.text.len() + text.len() <= CHUNK_BYTES => {
                last.text.push_str(text);
            }
            _ => self.chunks.push_back(Chunk { position, stream, text: text.to_owned() }),
        }
        while self.bytes > RING_BYTES {
            let Some(oldest) = self.chunks.pop_front() else { break };
            self.bytes -= oldest.text.len();
        }
    }

    fn read_from(&self, from: u64) -> Option<Chunk> {
        let index = self.chunks.partition_point(|chunk| chunk.end() <= from);
        let chunk = self.chunks.get(index)?;
        let mut skip = from.saturating_sub(chunk.position) as usize;
        // A position inside of a character belongs to nobody who counted right; go on behind it.
        while !chunk.text.is_char_boundary(skip) {
            skip += 1;
        }
        Some(Chunk {
            position: chunk.position + skip as u64,
            stream: chunk.stream,
            text: chunk.text[skip..].to_owned(),
        })
    }
}

/// One of the two pipes, with the bytes of a character that has not arrived whole.
struct Source {
    fd: OwnedFd,
    stream: OutputStream,
    pending: Vec<u8>,
}

impl Source {
    fn new(fd: OwnedFd, stream: OutputStream) -> Self {
        Self { fd, stream, pending: Vec::new() }
    }

    /// Reads once; false at the end of the stream.
    fn read_into(&mut self, output: &Output) -> bool {
        let mut buffer = [0; CHUNK_BYTES];
        match nix::unistd::read(&self.fd, &mut buffer).map_err(io::Error::from) {
            Ok(0) => {
                output.append(self.stream, &String::from_utf8_lossy(&self.pending));
                false
            }
            Ok(length) => {
                self.pending.extend_from_slice(&buffer[..length]);
                let whole = self.pending.len() - incomplete_tail(&self.pending);
                output.append(self.stream, &String::from_utf8_lossy(&self.pending[..whole]));
                self.pending.drain(..whole);
                true
            }
            Err(error) => error.kind() == io::ErrorKind::Interrupted,
        }
    }
}

/// Number of bytes at the end that begin a UTF-8 character and do not finish it.
fn incomplete_tail(bytes: &[u8]) -> usize {
    for (index, byte) in bytes.iter().rev().take(3).enumerate() {
        let width = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return 0,
        };
        return if width > index + 1 { index + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    use OutputStream::{Stderr, Stdout};

    fn chunk(position: u64, stream: OutputStream, text: &str) -> Chunk {
        Chunk { position, stream, text: text.into() }
    }

    #[test]
    fn reading_goes_on_where_the_reader_left_off() {
        let output = Output::new();
        output.append(Stdout, "one ");
        output.append(Stdout, "two");
        output.append(Stderr, "bad");
        assert_eq!(output.read_from(0), Some(chunk(0, Stdout, "one two")));
        assert_eq!(output.read_from(4), Some(chunk(4, Stdout, "two")));
        assert_eq!(output.read_from(7), Some(chunk(7, Stderr, "bad")));
        assert_eq!(output.read_from(10), None);
    }

    #[test]
    fn the_oldest_text_goes_when_the_ring_is_full() {
        let output = Output::new();
        let line = "x".repeat(CHUNK_BYTES);
        let lines = RING_BYTES / CHUNK_BYTES + 2;
        for _ in 0..lines {
            output.append(Stdout, &line);
        }
        assert_eq!(output.read_from(0).unwrap().position, 2 * CHUNK_BYTES as u64);
        assert_eq!(output.read_from((lines * CHUNK_BYTES) as u64), None);
    }

    #[test]
    fn a_position_inside_a_character_moves_behind_it() {
        let output = Output::new();
        output.append(Stdout, "aé!");
        assert_eq!(output.read_from(2), Some(chunk(3, Stdout, "!")));
    }

    #[test]
    fn characters_split_between_reads_stay_whole_and_bad_bytes_are_replaced() {
        assert_eq!(incomplete_tail("é".as_bytes()), 0);
        assert_eq!(incomplete_tail(&"é".as_bytes()[..1]), 1);
        assert_eq!(incomplete_tail(&"😀".as_bytes()[..3]), 3);
        assert_eq!(incomplete_tail(&[0x80, 0x80, 0x80]), 0);

        let output = Output::new();
        let (read, write) = nix::unistd::pipe().unwrap();
        let mut source = Source::new(read, Stdout);
        let mut write = File::from(write);
        write.write_all(&[b'a', 0xff, 0xc3]).unwrap();
        assert!(source.read_into(&output));
        write.write_all(&[0xa9]).unwrap();
        assert!(source.read_into(&output));
        drop(write);
        assert!(!source.read_into(&output));
        assert_eq!(output.read_from(0), Some(chunk(0, Stdout, "a\u{fffd}é")));
    }

    #[test]
    fn collecting_ends_with_the_streams() {
        let output = Output::new();
        let (stdout, stdout_write) = nix::unistd::pipe().unwrap();
        let (stderr, stderr_write) = nix::unistd::pipe().unwrap();
        File::from(stdout_write).write_all(b"out").unwrap();
        File::from(stderr_write).write_all(b"err").unwrap();
        output.collect(stdout, stderr);
        assert!(output.is_closed());
        assert_eq!(output.read_from(3), Some(chunk(3, Stderr, "err")));
    }
}
